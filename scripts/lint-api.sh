#!/bin/sh
# Starts a service and sends it requests that its OpenAPI document allows, and others that it does not.
# Checks that the document describes every answer.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
cd "$work"
: >"$work/log" # the service opens it a moment later
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
schemathesis --config-file "$root/pkg/edge/apispec/schemathesis.toml" run "$url/openapi.json" \
	--max-examples "${EXAMPLES:-20}" --seed "${SEED:-1}" --no-color --header "Authorization: Bearer $token"
