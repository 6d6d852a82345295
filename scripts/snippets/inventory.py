"""Asks the documented query of Systems Manager's inventory of a document that the daemon writes.

    inventory.py OPERATIONS.MD SNAPSHOT
"""

import json
import re
import sys

import jmespath

with open(sys.argv[1]) as file:
    (query,) = re.findall(r"aws ssm get-inventory .*?--query \\\n *'(.*?)'\n", file.read(), re.S)
with open(sys.argv[2]) as file:
    document = json.loads(file.read().split("---\n", 2)[2])
kind = document["TypeName"]
answer = {"Entities": [{"Id": "i-0123456789abcdef0", "Data": {kind: document}}]}
(host,) = jmespath.search(query, answer)
print(json.dumps(host))
assert host["host"] == "i-0123456789abcdef0"
((guarantee, standing, since, changed_by, problem),) = host["not_held"]
assert (guarantee, standing, changed_by) == ("imds-block", "violated", "iptables")
assert since and problem
