# Sourced by the get-*.sh scripts: fetches Debian's packages without installing anything. They are
# downloaded and unpacked into a directory of their own; no maintainer script runs, so nothing is
# started or enabled.
#
#   begin NAME DIR        where they belong; ends the script where they are there already
#   debian_or_path WHAT PROGRAM...  elsewhere than on Debian: are the programs in PATH?
#   fetch PACKAGE...      downloads and unpacks below $work/root
#   finish                moves $work/root to its place

say() { echo "get-$name: $*" >&2; }

begin() {
    name=$1
    dir=$2
    if [ -e "$dir/complete" ]; then
        exit 0
    fi
}

debian_or_path() {
    if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
        # Beside its final place, and moved there at the end: an interrupted run leaves nothing
        # half-made, and two at once do not mix.
        mkdir -p "$(dirname "$dir")"
        work=$(mktemp -d "$dir.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        trap 'exit 1' INT TERM
        return
    fi
    what=$1
    shift
    missing=
    for program in "$@"; do
        command -v "$program" >/dev/null || missing="$missing $program"
    done
    [ -z "$missing" ] && exit 0
    say "this is no Debian, and PATH lacks:$missing. Install $what."
    exit 1
}

download() {
    # As root: the sandbox user may not write here, and apt would warn about it each time.
    (cd "$work" && apt-get -q -o APT::Sandbox::User=root download "$@" >&2)
}

fetch() {
    say "downloading $* (nothing is installed) into $dir"
    if ! download "$@"; then
        say "the package lists may be old or missing: apt-get update, then again"
        apt-get -q update >&2
        download "$@"
    fi
    for deb in "$work"/*.deb; do
        dpkg -x "$deb" "$work/root"
    done
}

finish() {
    touch "$work/root/complete"
    if ! mv -T "$work/root" "$dir" 2>/dev/null && [ ! -e "$dir/complete" ]; then
        rm -rf "$dir"
        mv -T "$work/root" "$dir"
    fi
    say "done: $(du -sh "$dir" | cut -f1)"
}
