#!/bin/sh
# Fails if a function's stripped binary has more than 15 MB. A larger one does not start within twice
# the time of a bare handler.
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
echo "the largest function has $largest bytes, at most $limit are allowed"
