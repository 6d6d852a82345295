#!/bin/sh
# vendor.sh DIR: writes every crate that Cargo.lock names to DIR/vendor, and cargo's configuration for
# them to DIR/.cargo/config.toml.
set -eu

cd "$(dirname "$0")/.."
dir=$1
rm -rf "$dir"
mkdir -p "$dir/.cargo"
${CARGO:-cargo} vendor --quiet --locked --versioned-dirs "$dir/vendor" >/dev/null
cat >"$dir/.cargo/config.toml" <<END
[source.crates-io]
replace-with = "vendored-sources"

[source.vendored-sources]
directory = "vendor"
END

# Crates for Windows are most of it by size and are never built here. Cargo reads what each of them is,
# so that stays.
for crate in "$dir"/vendor/windows* "$dir"/vendor/winapi*; do
    [ -d "$crate" ] || continue
    find "$crate" -type f ! -name Cargo.toml ! -name .cargo-checksum.json -delete
    find "$crate" -mindepth 1 -type d -empty -delete
    mkdir -p "$crate/src"
    : >"$crate/src/lib.rs"
    sed -i 's/"files":{[^}]*}/"files":{}/' "$crate/.cargo-checksum.json"
done
