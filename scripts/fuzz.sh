#!/bin/sh
# Runs every fuzz target of the module for a time, two at once: scripts/fuzz.sh 30s
# After a failure it prints the inputs that failed, which go test has written to testdata/fuzz.
set -eu
grep -rn --include='*_test.go' '^func Fuzz' pkg cmd |
	sed -E 's|^(.*)/[^/]*:[0-9]+:func (Fuzz[A-Za-z0-9_]*).*|./\1 \2|' |
	xargs -P 2 -n 2 sh -c 'go test "$1" -run "^$" -fuzz "^$2\$" -fuzztime "$0" -parallel 1 || exit 255' "$1" || {
	status=$?
	git ls-files --others --exclude-standard -- '*/testdata/fuzz/*' | while read -r file; do
		printf '%s\n' "failing input $file:"
		cat "$file"
	done
	exit "$status"
}
