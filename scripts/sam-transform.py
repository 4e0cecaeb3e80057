"""Runs AWS SAM's own transform on a template, as a deployment does, and fails if SAM refuses it.
Needs aws-sam-translator, and neither an account nor the network."""

import os
import sys

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")  # the transform needs a region

from samtranslator.model.exceptions import InvalidDocumentException  # noqa: E402
from samtranslator.translator.transform import transform  # noqa: E402
from samtranslator.yaml_helper import yaml_parse  # noqa: E402


class ManagedPolicies:
    """No managed policies: the template names none."""

    def load(self):
        return {}


def main(path):
    with open(path, encoding="utf-8") as file:
        template = yaml_parse(file)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"  # a deployment uploads the code there
    try:
        resources = transform(template, {}, ManagedPolicies())["Resources"]
    except InvalidDocumentException as error:
        sys.exit("\n".join([f"{path}: SAM refuses it"] + [f"  {cause.message}" for cause in error.causes]))
    print(f"{path}: SAM creates {len(resources)} resources")


main(sys.argv[1])
