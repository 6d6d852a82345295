# Sourced, beside mirror.sh: packages of a suite's backports, for a look and for files, none of them installed.

# backports_of SUITE: asks the mirror what there is; what apt writes down for that lies in the current directory.
backports_of() {
    mkdir -p lists cache/archives/partial
    mirror=$(debian_mirror)
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keys] $mirror $1-backports main" >sources.list
    backports apt-get -qq update
}

# backports PROGRAM ARGUMENTS...: apt-get or apt-cache, of those alone.
backports() {
    program=$1
    shift
    $program -o APT::Sandbox::User=root -o Dir::Etc::sourcelist="$PWD/sources.list" \
        -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$PWD/lists" -o Dir::Cache="$PWD/cache" "$@"
}
