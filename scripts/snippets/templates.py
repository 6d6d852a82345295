"""Looks at the launch templates of packaging/snippets, and writes the user data that an instance would get.

    templates.py terraform MAIN.TF BINDINGS OUT      BINDINGS: lib/ of @cdktn/provider-aws
    templates.py cloudformation TEMPLATE OUT

Terraform's own validation needs the AWS provider, which no package registry has. Here every block and argument
is looked up in the bindings that are generated from that provider's schema, and every reference is resolved;
values have no types here. CloudFormation's is cfn-lint's affair. What is the same for all: IMDSv2 alone, the
hook and its permission, and user data that names both.
"""

import json
import pathlib
import re
import sys

# What a user gives, and what is then the same for all templates.
GIVEN = {"cluster": "production", "package_version": "0.2.0", "package_source": "https://packages.example.com"}
GIVEN["key_sha256"] = "a7998f247bd965694ff227fa325c81169a07471a8b6808d3e002a486c4e65975"


def check(condition, message):
    if not condition:
        sys.exit(f"templates.py: {message}")


def same_for_all(metadata, hook, group, allowed, user_data, out):
    """Checks what must hold of each, and writes the user data with names that do not differ."""
    check(metadata == ("required", 1), f"the metadata options are {metadata}")
    name, transition, default = hook
    check((transition, default) == ("autoscaling:EC2_INSTANCE_LAUNCHING", "ABANDON"), f"the hook is {hook}")
    check(len(allowed) == 1 and allowed[0].endswith(f":autoScalingGroupName/{group}"), f"allowed on {allowed}")
    exported = re.search(r"^export AUTO_SCALING_GROUP=(\S+) LIFECYCLE_HOOK=(\S+)$", user_data, re.M)
    check(exported, "user data does not name the group and its hook")
    check([text.strip("'") for text in exported.groups()] == [group, name], f"user data names {exported.groups()}")
    text = user_data.replace(exported[0], "export AUTO_SCALING_GROUP=hosts LIFECYCLE_HOOK=proved")
    out = pathlib.Path(out)
    out.write_text(text)
    out.chmod(0o755)
    # The limit of EC2, before it is encoded.
    check(len(text.encode()) < 16 * 1024, "user data is larger than 16 KiB")


def blocks(body, kind):
    """The blocks of one kind, by their labels."""
    for block in body.get(kind, []):
        for label, inner in block.items():
            if label == "__is_block__" or label.startswith("__"):
                continue
            yield label.strip('"'), inner


def fields(bindings, resource, prefix):
    """The arguments of a resource or of data by the bindings: name -> (the interface of a block or None, required)."""
    folder = prefix + resource.removeprefix("aws_").replace("_", "-")
    text = (pathlib.Path(bindings) / folder / "index.d.ts").read_text()
    interfaces = {}
    for name, body in re.findall(r"^export interface (\w+)(?: extends [\w.]+)? \{\n(.*?)^\}", text, re.S | re.M):
        members = re.findall(r"#(\w+) \w+#\w+\}.*?readonly \w+(\??): ([^;]+);", body, re.S)
        interfaces[name] = {snake: (kind.split("[")[0].split(" ")[0], not optional) for snake, optional, kind in members}
    first = next(name for name in interfaces if name.endswith("Config"))
    return interfaces, interfaces[first]


def arguments(where, body, interfaces, known):
    meta = {"depends_on", "lifecycle", "count", "for_each", "provider"}
    given = {name for name in body if not name.startswith("__")} - meta
    for name in given:
        check(name in known, f"{where} has no argument {name}")
        for block in body[name] if isinstance(body[name], list) else []:
            if isinstance(block, dict) and "__is_block__" in block:
                kind = known[name][0]
                check(kind in interfaces, f"{where}.{name} is no block")
                arguments(f"{where}.{name}", block, interfaces, interfaces[kind])
    for name, (_, required) in known.items():
        check(not required or name in given, f"{where} needs {name}")


def terraform(path, bindings, out):
    import hcl2

    body = hcl2.loads(pathlib.Path(path).read_text())
    declared = {f"var.{name}" for name, _ in blocks(body, "variable")}
    declared |= {f"local.{name}" for local in body["locals"] for name in local if not name.startswith("__")}
    resources = {}
    for kind, prefix in (("resource", ""), ("data", "data-aws-")):
        for resource, named in blocks(body, kind):
            interfaces, known = fields(bindings, resource, prefix)
            for name, inner in named.items():
                address = ("data." if kind == "data" else "") + f"{resource}.{name.strip(chr(34))}"
                resources[address] = inner
                arguments(address, inner, interfaces, known)
    text = pathlib.Path(path).read_text()
    for reference in re.findall(r"\b(?:var|local)\.\w+|\b(?:data\.)?aws_\w+\.\w+", text):
        check(reference in declared | set(resources), f"{reference} is declared nowhere")

    values = {f"var.{name}": block.get("default", '""') for name, block in blocks(body, "variable")}
    values |= {f"var.{name}": value for name, value in GIVEN.items()}
    values["local.hook"] = body["locals"][0]["hook"]

    def value(text):
        """A string with what it refers to in its place."""
        text = str(text).strip('"')
        return re.sub(r"\$\{((?:var|local)\.\w+)\}", lambda of: value(values[of[1]]), text)

    composed = re.fullmatch(r'\$\{join\("\\n", \[(.*)\]\)\}', body["locals"][0]["user_data"])
    check(composed, "user_data is not joined from lines")
    *lines, last = re.findall(r'"((?:[^"\\]|\\.)*)"|(file\(.*\))', composed[1])
    included = re.fullmatch(r'file\("\$\{path\.module\}/(.*)"\)', last[1])
    script = (pathlib.Path(path).parent / included[1]).read_text()
    user_data = "\n".join([value(line) for line, _ in lines] + [script])

    template = resources["aws_launch_template.host"]
    check(template["user_data"] == "${base64encode(local.user_data)}", "the launch template has other user data")
    metadata, group = template["metadata_options"][0], resources["aws_autoscaling_group.host"]
    hook = group["initial_lifecycle_hook"][0]
    statement = resources["data.aws_iam_policy_document.host"]["statement"][0]
    check(statement["actions"] == ['"autoscaling:CompleteLifecycleAction"'], f"{statement}")
    same_for_all(
        (value(metadata["http_tokens"]), metadata["http_put_response_hop_limit"]),
        tuple(value(hook[name]) for name in ("name", "lifecycle_transition", "default_result")),
        value(group["name"]),
        [value(resource) for resource in statement["resources"]],
        user_data,
        out,
    )


def cloudformation(path, out):
    from cfnlint.decode import decode

    template, problems = decode(path)
    check(not problems, f"{problems}")
    script = (pathlib.Path(__file__).parents[2] / "packaging/snippets/user-data.sh").read_text()
    given = {"AWS::StackName": "hosts", "UserData": script}
    given |= {name.title().replace("_", ""): value for name, value in GIVEN.items()}
    # CloudFormation takes no longer one.
    check(len(script) <= 4096, "user-data.sh has more than the 4,096 characters of a parameter")

    def value(of):
        if not isinstance(of, dict):
            return str(of)
        (name, inner), = of.items()
        if name == "Ref":
            return given.get(inner, f"<{inner}>")
        if name == "Fn::Sub":
            return re.sub(r"\$\{([\w:]+)\}", lambda of: given.get(of[1], f"<{of[1]}>"), inner)
        if name == "Fn::Join":
            return inner[0].join(value(part) for part in inner[1])
        check(name == "Fn::Base64", f"{name} is not known here")
        return value(inner)

    def only(kind):
        (properties,) = [of["Properties"] for of in template["Resources"].values() if of["Type"] == kind]
        return properties

    data, group = only("AWS::EC2::LaunchTemplate")["LaunchTemplateData"], only("AWS::AutoScaling::AutoScalingGroup")
    (hook,) = group["LifecycleHookSpecificationList"]
    policies = [of["Properties"] for of in template["Resources"].values() if of["Type"] == "AWS::IAM::Policy"]
    policies += only("AWS::IAM::Role").get("Policies", [])
    statements = [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]
    allowed = [of["Resource"] for of in statements if of["Action"] == "autoscaling:CompleteLifecycleAction"]
    metadata = data["MetadataOptions"]
    same_for_all(
        (metadata["HttpTokens"], metadata["HttpPutResponseHopLimit"]),
        (hook["LifecycleHookName"], hook["LifecycleTransition"], hook["DefaultResult"]),
        value(group["AutoScalingGroupName"]),
        [value(resource) for resource in allowed],
        value(data["UserData"]),
        out,
    )


if __name__ == "__main__":
    {"terraform": terraform, "cloudformation": cloudformation}[sys.argv[1]](*sys.argv[2:])
