"""Runs AWS SAM's own transform on a template, as a deployment does, and fails on
what it refuses. Needs aws-sam-translator; no account and no network."""

import os
import sys

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")  # the transform asks for one

from samtranslator.model.exceptions import InvalidDocumentException  # noqa: E402
from samtranslator.translator.transform import transform  # noqa: E402
from samtranslator.yaml_helper import yaml_parse  # noqa: E402


class ManagedPolicies:
    """Knows none by name: the template names none."""

    def load(self):
        return {}


def main(path):
    with open(path, encoding="utf-8") as file:
        template = yaml_parse(file)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"  # where a deployment uploads the code to
    try:
        resources = transform(template, {}, ManagedPolicies())["Resources"]
    except InvalidDocumentException as refusal:
        sys.exit("\n".join([f"{path}: SAM refuses it"] + [f"  {cause.message}" for cause in refusal.causes]))
    print(f"{path}: SAM makes {len(resources)} resources of it")


main(sys.argv[1])
