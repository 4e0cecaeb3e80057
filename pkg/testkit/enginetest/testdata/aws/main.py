"""Runs ministack in memory, until it is told to end or the process that holds the other end of its standard
input is gone. Arguments: the port, and the folder of this engine. If FUNCTION_VARIABLES is set, it runs functions of
Lambda too: see run_functions."""

import json
import os
import re
import shutil
import socket
import sys
import threading
import time

PORT, FOLDER = sys.argv[1], sys.argv[2]


def hold():
    """Waits for the end of standard input, which is the end of the test binary however it went."""
    while sys.stdin.buffer.read(1):
        pass  # nothing is ever sent
    shutil.rmtree(FOLDER, ignore_errors=True)
    os._exit(1)


def announce():
    """Prints READY once the server takes connections."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(PORT))).close()
            break
        except OSError:
            time.sleep(0.02)
    print("READY", flush=True)


threading.Thread(target=hold, daemon=True).start()
threading.Thread(target=announce, daemon=True).start()
os.environ.update(
    GATEWAY_PORT=PORT,
    BIND_HOST="127.0.0.1",
    MINISTACK_HOST="127.0.0.1",
    MINISTACK_REGION=os.environ["AWS_REGION"],
    AUTH="true",
    IOT_MTLS_ENABLED="0",  # otherwise an MQTT listener opens on all addresses
    LOG_LEVEL="WARNING",
    S3_DATA_DIR=FOLDER,
    STATE_DIR=FOLDER,
    TMPDIR=FOLDER,
)
sys.argv = sys.argv[:1]

VARIABLES = json.loads(os.environ.pop("FUNCTION_VARIABLES", "null"))
ADDRESS = "http://127.0.0.1:" + PORT
if VARIABLES is not None:
    os.environ["AWS_ENDPOINT_URL"] = ADDRESS

from ministack.app import main  # noqa: E402, it reads the variables above


def run_functions():
    """Lets deployed functions run here as on AWS. Seven things differ. The addresses of AWS and of stores that the
    emulator does not run are replaced in the functions' environments. SQS has no IAM action for batches: they are
    judged as the single action. Plain HTTP to loopback counts as TLS, which policies ask for. Secrets Manager finds a
    secret by its ARN without the random suffix, and IAM judges the whole one. API keys come from the authorizer.
    Policies see the encryption context of a call of KMS. The method and the route are identity sources."""
    from ministack import app
    from ministack.core import iam_actions
    from ministack.services import lambda_svc

    environment = lambda_svc._provided_worker_env

    def replaced(config, code_dir, port):
        variables = environment(config, code_dir, port)
        for name, value in VARIABLES.items():
            if name in variables:
                variables[name] = value
        name = "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"
        if name in variables:
            variables[name] = re.sub(r"^https://([a-z0-9]+)\.execute-api\.[^/]+/", ADDRESS + r"/_aws/execute-api/\1/", variables[name])
        return variables

    lambda_svc._provided_worker_env = replaced

    action_of = iam_actions.extract_iam_action

    def single(*args, **kwargs):
        action = action_of(*args, **kwargs)
        return re.sub("^(sqs:.*)Batch$", r"\1", action) if action else action

    iam_actions.extract_iam_action = single

    tags_of = iam_actions.request_tag_context

    def with_encryption_context(service, action, body, params):
        keys = tags_of(service, action, body, params)
        if service == "kms":
            context = json.loads(body or b"{}").get("EncryptionContext") or {}
            keys = {**keys, **{"kms:EncryptionContext:" + name: value for name, value in context.items()}}
        return keys

    iam_actions.request_tag_context = with_encryption_context

    pin = app.pin_request_origin
    app.pin_request_origin = lambda source_ip, secure_transport: pin(source_ip, True)

    identify_by_route()
    take_keys_from_authorizers()


def identify_by_route():
    """Gives the identity sources context.httpMethod and context.resourcePath of an authorizer their values. The
    emulator treats them as absent."""
    from contextvars import ContextVar

    from ministack.services import apigateway_v1

    sources, authorize = apigateway_v1._request_identity_sources, apigateway_v1._authorize_request_v1
    called = ContextVar("called")

    def identified(identity_source, *args):
        context, rest = called.get({}), []
        values = []
        for source in (source.strip() for source in (identity_source or "").split(",")):
            if source in context:
                values.append(context[source])
            else:
                rest.append(source)
        present, others = sources(",".join(rest), *args)
        return present and all(values), values + others

    async def authorized(api_id, stage_name, method_obj, method, path, resource, *rest, **kwargs):
        called.set({"context.httpMethod": method, "context.resourcePath": resource["path"]})
        return await authorize(api_id, stage_name, method_obj, method, path, resource, *rest, **kwargs)

    apigateway_v1._request_identity_sources, apigateway_v1._authorize_request_v1 = identified, authorized


def take_keys_from_authorizers():
    """Takes the API key of a request from its authorizer's answer, as an API with the key source AUTHORIZER does. The
    emulator knows the header x-api-key alone, so a client's own is dropped."""
    from ministack.services import apigateway_v1

    name = "usageIdentifierKey"
    invoke, authorize = apigateway_v1._invoke_authorizer_lambda, apigateway_v1._authorize_request_v1

    async def invoked(*args, **kwargs):
        result = await invoke(*args, **kwargs)
        if result and not result.get("error"):
            body = result.get("body")
            body = json.loads(body) if isinstance(body, (str, bytes)) else body
            if isinstance(body, dict) and body.get(name):
                body = {**body, "context": {**(body.get("context") or {}), name: body[name]}}
            result = {**result, "body": body}
        return result

    async def authorized(api_id, stage_name, method_obj, method, path, resource, headers, *rest, **kwargs):
        error, context = await authorize(api_id, stage_name, method_obj, method, path, resource, headers, *rest, **kwargs)
        for header in [header for header in headers if header.lower() == "x-api-key"]:
            del headers[header]
        if context and name in context:
            context = dict(context)
            headers["x-api-key"] = context.pop(name)
        return error, context

    apigateway_v1._invoke_authorizer_lambda, apigateway_v1._authorize_request_v1 = invoked, authorized


if VARIABLES is not None:
    run_functions()
main()
