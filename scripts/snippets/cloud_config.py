"""Does what cloud-init does of a cloud-config, in a sandbox: files and commands by cloud-init's own code.

    cloud_config.py CLOUD-CONFIG
"""

import subprocess
import sys

import yaml
from cloudinit import util
from cloudinit.config import cc_write_files

with open(sys.argv[1]) as file:
    config = yaml.safe_load(file)
cc_write_files.write_files("write_files", config["write_files"], "root:root")
subprocess.run(["dnf", "-y", "install", *config["packages"]], check=True)
sys.exit(subprocess.run(["sh", "-c", util.shellify(config["runcmd"])]).returncode)
