#!/bin/sh
# Sends what the OpenAPI document allows, and what it does not, to a running
# service and checks that every answer is one that the document describes.
set -eu
work=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
bin/ocelot dev --addr 127.0.0.1:0 --data "$work/data" >"$work/log" 2>&1 &
pid=$!
url=
for _ in $(seq 100); do
	url=$(sed -n 's/^  API   //p' "$work/log")
	[ -n "$url" ] && break
	sleep 0.1
done
[ -n "$url" ] || { cat "$work/log" >&2; exit 1; }
token=$(bin/ocelot token --data "$work/data" --tenant '*' --role operator)
schemathesis run "$url/openapi.json" --checks all --max-examples "${EXAMPLES:-25}" --seed 1 --no-color \
	--header "Authorization: Bearer $token" --header "X-Tenant-ID: demo"
