#!/bin/sh
# Fails if a function's stripped binary is too large to start within twice the time of a bare handler:
# 15 MB for arm64, on which functions run unless a deployment says otherwise. The same code has about 6 %
# more bytes for amd64.
set -eu
for arch in "$1"/*/; do
	case $(basename "$arch") in
	arm64) limit=15000000 ;;
	*) limit=15500000 ;;
	esac
	largest=0
	for file in "$arch"*/bootstrap; do
		size=$(wc -c <"$file")
		if [ "$size" -gt "$largest" ]; then largest=$size; fi
		if [ "$size" -gt "$limit" ]; then
			echo "$file has $size bytes, more than $limit" >&2
			exit 1
		fi
	done
	echo "the largest function for $(basename "$arch") has $largest bytes, at most $limit are allowed"
done
