#!/bin/sh
# Fetches Prometheus, promtool and node_exporter for the tests, without installing anything (Debian's
# packages start what they install): they are downloaded and unpacked into a directory of their own.
#
#   get-prometheus.sh [DIR]      (target/lab-prometheus, unless told)
#
# Where DIR already has them, nothing is done. Elsewhere than on Debian and its kin the tests take
# them from PATH, and this script says what is missing.
set -eu

dir=${1:-$(dirname "$0")/../../target/lab-prometheus}
say() { echo "get-prometheus: $*" >&2; }

if [ -e "$dir/complete" ]; then
    exit 0
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    missing=
    for program in prometheus promtool prometheus-node-exporter; do
        command -v "$program" >/dev/null || missing="$missing $program"
    done
    [ -z "$missing" ] && exit 0
    say "this is no Debian, and PATH lacks:$missing. Install Prometheus and node_exporter."
    exit 1
fi

# Beside its final place, and moved there at the end: an interrupted run leaves nothing half-made,
# and two at once do not mix.
mkdir -p "$(dirname "$dir")"
work=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

download() {
    # As root: the sandbox user may not write here, and apt would warn about it each time.
    (cd "$work" && apt-get -q -o APT::Sandbox::User=root download prometheus prometheus-node-exporter >&2)
}

say "downloading prometheus and prometheus-node-exporter (nothing is installed) into $dir"
if ! download; then
    say "the package lists may be old or missing: apt-get update, then again"
    apt-get -q update >&2
    download
fi
for deb in "$work"/*.deb; do
    dpkg -x "$deb" "$work/root"
done
mkdir "$work/done"
mv "$work/root/usr/bin"/* "$work/done/"
touch "$work/done/complete"
if ! mv -T "$work/done" "$dir" 2>/dev/null && [ ! -e "$dir/complete" ]; then
    rm -rf "$dir"
    mv -T "$work/done" "$dir"
fi
say "done: $(du -sh "$dir" | cut -f1)"
