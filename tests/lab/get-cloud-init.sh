#!/bin/sh
# Fetches cloud-init for scripts/check-snippets.sh, without installing anything: installed, it would configure
# this machine at its next boot.
#
#   get-cloud-init.sh [DIR]      (default: target/lab-cloud-init)
#
# Where DIR already has it, nothing is done. Elsewhere than on Debian and its kin this script says so.
set -eu
. "$(dirname "$0")/fetch.sh"

begin cloud-init "${1:-$(dirname "$0")/../../target/lab-cloud-init}"
debian_or_path "a Debian: its package is what is run" apt-get dpkg
fetch cloud-init
finish
