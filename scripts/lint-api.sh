#!/bin/sh
# Sends what the OpenAPI document allows, and what it does not, to a running
# service and checks that every answer is one that the document describes.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
cd "$work"
"$root/bin/ocelot" dev --addr 127.0.0.1:0 --data "$work/data" >"$work/log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
url=
for _ in $(seq 300); do
	url=$(sed -n 's/^  API   //p' "$work/log")
	[ -n "$url" ] && break
	sleep 0.1
done
[ -n "$url" ] || { cat "$work/log" >&2; exit 1; }
token=$("$root/bin/ocelot" token --data "$work/data" --tenant demo --role admin)
schemathesis --config-file "$root/pkg/edge/httpapi/schemathesis.toml" run "$url/openapi.json" \
	--max-examples "${EXAMPLES:-20}" --seed "${SEED:-1}" --no-color --header "Authorization: Bearer $token"
