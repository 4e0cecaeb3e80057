#!/bin/sh
# Runs a command beside a service with the demo data, and ends the service.
# Usage: with-service.sh COMMAND…
# The command has SERVICE_URL, the service's address, and SERVICE_DATA, its data folder.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
: >"$work/log" # the service opens it a moment later
"$root/bin/ocelot" dev --addr 127.0.0.1:0 --data "$work/data" >"$work/log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
url=
for _ in $(seq 300); do
	url=$(sed -n 's|^  API   \(.*\)/api/v1$|\1|p' "$work/log")
	[ -n "$url" ] && break
	sleep 0.1
done
[ -n "$url" ] || { cat "$work/log" >&2; exit 1; }
SERVICE_URL=$url SERVICE_DATA=$work/data "$@"
