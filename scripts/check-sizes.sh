#!/bin/sh
# Fails when a function's stripped binary passes 15 MB, the most that a start
# within twice a bare handler's allows.
set -eu
limit=15000000
largest=0
for file in "$1"/*/*/bootstrap; do
	size=$(wc -c <"$file")
	if [ "$size" -gt "$largest" ]; then largest=$size; fi
	if [ "$size" -gt "$limit" ]; then
		echo "$file has $size bytes, more than $limit" >&2
		exit 1
	fi
done
echo "the largest of the functions has $largest bytes of at most $limit"
