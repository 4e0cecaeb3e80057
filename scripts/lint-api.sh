#!/bin/sh
# Sends the service of with-service.sh requests that its OpenAPI document allows, and others that it
# does not. Checks that the document describes every answer.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
token=$("$root/bin/ocelot" token --data "$SERVICE_DATA" --tenant demo --role admin)
cd "$SERVICE_DATA" # schemathesis leaves files where it runs
schemathesis --config-file "$root/pkg/edge/apispec/schemathesis.toml" run "$SERVICE_URL/api/v1/openapi.json" \
	--max-examples "${EXAMPLES:-20}" --seed "${SEED:-1}" --no-color --header "Authorization: Bearer $token"
