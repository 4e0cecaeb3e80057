#!/bin/sh
# Merges coverage profiles of go test, prints the statement coverage and the ten
# packages with the lowest one, and fails if the total is below the minimum.
# Usage: cover.sh MINIMUM PROFILE…
#
# A statement counts as covered if any profile covers it. The main packages'
# main.go only wire, and generated files have no tests of their own: neither counts.
set -eu
minimum=$1
shift
for profile; do
	[ -s "$profile" ] || { echo "$profile is missing: run make test COVER=1 and make test-engines COVER=1 first" >&2; exit 2; }
done
module=$(go list -m)
generated=$(grep -rl --include='*.go' '^// Code generated .* DO NOT EDIT\.$' . | sed 's|^\./||')

awk -v module="$module/" -v generated="$generated" -v minimum="$minimum" '
	BEGIN {
		n = split(generated, names, "\n")
		for (i = 1; i <= n; i++) skip[names[i]] = 1
	}
	/^mode: / { next }
	{
		file = $1
		sub(/:[^:]*$/, "", file)
		if (index(file, module) == 1) file = substr(file, length(module) + 1)
		if (file in skip || file ~ /(^|\/)main\.go$/) next
		package[$1] = file
		sub(/\/[^\/]*$/, "", package[$1])
		statements[$1] = $2
		if ($3 > 0) covered[$1] = 1
	}
	END {
		for (block in statements) {
			p = package[block]
			size[p] += statements[block]
			total += statements[block]
			if (block in covered) { hit[p] += statements[block]; sum += statements[block] }
		}
		if (total == 0) { print "the profiles have no statement" > "/dev/stderr"; exit 2 }
		for (p in size) printf "%6.1f %%  %s (%d of %d statements)\n", 100 * hit[p] / size[p], p, hit[p], size[p] | "sort -n | head -10"
		close("sort -n | head -10")
		percent = 100 * sum / total
		printf "total: %.1f %% of %d statements, at least %d %%\n", percent, total, minimum
		exit percent < minimum
	}' "$@"
