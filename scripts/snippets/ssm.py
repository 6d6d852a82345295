"""Validates the Command documents of packaging/snippets, and writes the scripts that they run.

    ssm.py DOCUMENT OUT [PARAMETER=VALUE...]

AWS publishes no schema of Command documents; this one says what "SSM document syntax" and the plugin reference
of the user guide say about what is used here. OUT gets a script for each aws:runShellScript, as the SSM agent
writes it: with the parameters in their places, for /bin/sh.
"""

import pathlib
import re
import sys

import jsonschema
import yaml

WORD = {"type": "string", "pattern": "^[A-Za-z0-9_]{1,}$"}
STEP = {
    "type": "object",
    "required": ["action", "name", "inputs"],
    "additionalProperties": False,
    "properties": {
        "action": {"enum": ["aws:runShellScript", "aws:configurePackage"]},
        "name": WORD,
        "precondition": {"const": {"StringEquals": ["platformType", "Linux"]}},
        "inputs": {"type": "object"},
    },
    "allOf": [
        {
            "if": {"properties": {"action": {"const": "aws:runShellScript"}}},
            "then": {
                "properties": {
                    "inputs": {
                        "required": ["runCommand"],
                        "additionalProperties": False,
                        "properties": {
                            "runCommand": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                            "timeoutSeconds": {"type": "string", "pattern": "^[0-9]+$"},
                            "workingDirectory": {"type": "string"},
                        },
                    }
                }
            },
            "else": {
                "properties": {
                    "inputs": {
                        "required": ["name", "action"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {"type": "string"},
                            "version": {"type": "string"},
                            "action": {"enum": ["Install", "Uninstall"]},
                            "installationType": {"enum": ["Uninstall and reinstall", "In-place update"]},
                            "additionalArguments": {"type": "string"},
                        },
                    }
                }
            },
        }
    ],
}
SCHEMA = {
    "type": "object",
    "required": ["schemaVersion", "mainSteps"],
    "additionalProperties": False,
    "properties": {
        "schemaVersion": {"const": "2.2"},
        "description": {"type": "string"},
        "parameters": {
            "type": "object",
            "propertyNames": WORD,
            "additionalProperties": {
                "type": "object",
                "required": ["type", "description"],
                "additionalProperties": False,
                "properties": {
                    "type": {"const": "String"},
                    "description": {"type": "string"},
                    "default": {"type": "string"},
                    "allowedPattern": {"type": "string", "format": "regex"},
                    "allowedValues": {"type": "array", "items": {"type": "string"}},
                },
                # A parameter becomes part of a script that root runs.
                "anyOf": [{"required": ["allowedPattern"]}, {"required": ["allowedValues"]}],
            },
        },
        "mainSteps": {"type": "array", "items": STEP, "minItems": 1},
    },
}


def main(path, out, *given):
    document = yaml.safe_load(pathlib.Path(path).read_text())
    jsonschema.validate(document, SCHEMA)
    parameters = document.get("parameters", {})
    values = {name: of.get("default") for name, of in parameters.items()} | dict(one.split("=", 1) for one in given)
    for name, value in values.items():
        of = parameters[name]
        if value not in of.get("allowedValues", [value]) or not re.search(of.get("allowedPattern", ""), value):
            sys.exit(f"ssm.py: {path}: {name} must not be {value!r}")
    used = set(re.findall(r"\{\{ *(\w+) *\}\}", pathlib.Path(path).read_text()))
    if used != set(parameters):
        sys.exit(f"ssm.py: {path} declares {sorted(parameters)} and uses {sorted(used)}")
    for step in document["mainSteps"]:
        if step["action"] == "aws:runShellScript":
            text = "\n".join(step["inputs"]["runCommand"])
            text = re.sub(r"\{\{ *(\w+) *\}\}", lambda of: values[of[1]], text)
            script = pathlib.Path(out) / f"{pathlib.Path(path).stem}-{step['name']}.sh"
            script.write_text(f"#!/bin/sh\n{text}\n")
            script.chmod(0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
