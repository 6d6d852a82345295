#!/bin/sh
# licences.sh TARGET SOURCES: writes what is linked into the binary for TARGET (a Rust triple), crate
# by crate, with the texts of their licences. SOURCES is the directory of crates, NAME-VERSION each.
# Fails where a crate cannot be had under one of the licences that the package is under (License: in
# packaging/rpm/ecs-netguard.spec), or brings no text.
set -eu

TAKEN="Apache-2.0 MIT Zlib"

target=$1
sources=$2
[ -d "$sources" ] || { echo "licences.sh: $sources: no such directory" >&2; exit 1; }

# can_be_taken EXPRESSION: one of its alternatives is in TAKEN. An AND is none of them.
can_be_taken() {
    printf '%s\n' "$1" | sed 's| OR |\n|g; s|/|\n|g' | while read -r alternative; do
        case " $TAKEN " in *" $alternative "*) echo yes ;; esac
    done | grep -q yes
}

texts_of() {
    find "$1" -maxdepth 1 -type f | LC_ALL=C sort |
        grep -iE '/(licen[cs]e|copying|copyright|unlicense|notice)[^/]*$'
}

cat <<END
What is linked into ecs-netguard beside its own code, which is under the Apache License 2.0 (LICENSE):
each crate with its version, the licences that it is offered under, and their texts as it brings them.

The Rust standard library, MIT OR Apache-2.0, is taken under the Apache License 2.0. Copyright (c) The
Rust Project Contributors; https://www.rust-lang.org/policies/licenses names the parts of others.
END

tree=$(cargo tree --frozen -p ecs-netguard -e normal,no-proc-macro --target "$target" --prefix none \
    --no-dedupe -f '{p}|{l}')
printf '%s\n' "$tree" | grep -v '^ecs-netguard v' | LC_ALL=C sort -u |
    while IFS='|' read -r package expression; do
        name=${package%% *}
        version=${package#* v}
        version=${version%% *}
        if ! can_be_taken "$expression"; then
            echo "licences.sh: $name $version is under \"$expression\", none of which is taken ($TAKEN): decide, and put it into License: of the spec file" >&2
            exit 1
        fi
        if ! texts=$(texts_of "$sources/$name-$version"); then
            echo "licences.sh: $sources/$name-$version brings no text of its licence" >&2
            exit 1
        fi
        printf '\n%s\n%s %s\n%s\n' \
            ================================================================================ \
            "$name" "$version" "$expression"
        printf '%s\n' "$texts" | while read -r text; do
            printf '\n--- %s\n\n' "${text##*/}"
            # One ends in a newline, another in none, a third in CR LF.
            tr -d '\r' <"$text" | sed -e '$a\'
        done
    done
