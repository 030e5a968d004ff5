#!/usr/bin/env bash
# Every header compiles alone, as C17 and as C++17; left out are those that need a foreign library's.
# usage: check_headers.sh ROOT "compiler flags for the libraries"
set -u
root=$1
flags=${2:-}
one=$(mktemp -d)
trap 'rm -rf "$one"' EXIT
failed=0
count=0
cd "$root" || exit 1
while IFS= read -r header; do
    count=$((count + 1))
    # Through a one-line includer: a header named on the command line would warn about #pragma once.
    printf '#include "%s"\n' "$header" > "$one/one.c"
    for language in "c -std=c17" "c++ -std=c++17"; do
        # shellcheck disable=SC2086
        if ! ${CC:-gcc} -x $language -D_GNU_SOURCE -Wall -Wextra -Wno-unused-function -I. $flags -fsyntax-only "$one/one.c"; then
            echo "$header does not compile alone as ${language%% *}"
            failed=1
        fi
    done
done < <(find base kernels data train tests -name '*.h' -not -path '*/cpu/*' -not -path '*/cuda/*' -not -name 'mpi_*.h' | sort)
[ "$count" -gt 0 ] || { echo "no headers found"; exit 1; }
[ "$failed" = 0 ] && echo "headers: ok ($count)"
exit "$failed"
