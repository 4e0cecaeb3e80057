#!/bin/sh
# Runs the Postman collection against the service of with-service.sh.
# Usage: test-postman.sh NEWMAN
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
token=$("$root/bin/ocelot" token --data "$SERVICE_DATA" --tenant '*' --role operator --permissions subjects:erase)
"$1" run "$root/docs/ocelot.postman_collection.json" --env-var "baseUrl=$SERVICE_URL/api/v1" --env-var "token=$token" \
	--timeout-request 30000 --color off --reporters cli --reporter-cli-no-banner --reporter-cli-no-console --bail
