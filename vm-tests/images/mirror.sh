# Sourced: where this machine's apt gets its packages, for root trees that mmdebstrap makes.

# mirror LABEL: the first address of what its origin calls so (Debian, Debian-Security), or nothing.
mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' "Label: $1" | head -n 1
}

# debian_mirror: VM_MIRROR, or this machine's own; ends the script where there is none.
debian_mirror() {
    found=${VM_MIRROR:-$(mirror Debian)}
    if [ -z "$found" ]; then
        # A machine that never asked its mirror does not know it by its label.
        apt-get update -qq >&2 || :
        found=$(mirror Debian)
    fi
    if [ -z "$found" ]; then
        echo "this machine's apt knows no Debian mirror: run 'apt-get update', or name one in VM_MIRROR" >&2
        exit 1
    fi
    echo "$found"
}

# apt_access FILE: mmdebstrap does not read this machine's apt configuration; how to get at the mirror is carried over.
apt_access() {
    apt-config dump Acquire | grep -E '::(Proxy|Retries|Check-Valid-Until|Check-Date)\b' >"$1" || :
}
