#!/usr/bin/env bash
# Every source file is as clang-format 14 writes it. usage: check_format.sh ROOT
set -u
cd "$1" || exit 1
formatter=$(command -v clang-format-14 || command -v clang-format) || {
    echo "skipped: clang-format is not installed (apt-get install clang-format)"
    exit 77
}
case "$("$formatter" --version)" in
*"version 14."*) ;;
*) echo "skipped: the house format is clang-format 14's, this is $("$formatter" --version)"; exit 77 ;;
esac
mapfile -t files < <(find base kernels data train tests -name '*.[ch]' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | sort)
[ "${#files[@]}" -gt 0 ] || { echo "no sources found"; exit 1; }
"$formatter" --dry-run --Werror "${files[@]}" && echo "format: ok (${#files[@]} files)"
