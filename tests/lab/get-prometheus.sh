#!/bin/sh
# Fetches Prometheus, promtool and node_exporter for the tests, without installing anything.
#
#   get-prometheus.sh [DIR]      (default: target/lab-prometheus)
#
# Where DIR already has them, nothing is done. Elsewhere than on Debian and its kin the tests take
# them from PATH, and this script says what is missing.
set -eu
. "$(dirname "$0")/fetch.sh"

begin prometheus "${1:-$(dirname "$0")/../../target/lab-prometheus}"
debian_or_path "Prometheus and node_exporter" prometheus promtool prometheus-node-exporter
fetch prometheus prometheus-node-exporter
# The programs alone.
mv "$work/root" "$work/all"
mv "$work/all/usr/bin" "$work/root"
finish
