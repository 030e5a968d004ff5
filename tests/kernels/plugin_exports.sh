#!/usr/bin/env bash
# What a plug-in shows to the world: one function, and no library but the C library's own parts and those named. Anything
# of NVIDIA's in the list would keep the CUDA one from being opened where there is no driver.
# usage: plugin_exports.sh libseodang_cuda.so seo_cuda_plugin [another library's name, as a pattern]
set -u
command -v nm > /dev/null && command -v readelf > /dev/null || { echo "skipped: binutils are not installed"; exit 77; }
failed=0
exported=$(nm -D --defined-only "$1" | awk '{print $NF}')
[ "$exported" = "$2" ] || { echo "it exports: $exported"; failed=1; }
needed=$(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
[ -n "$needed" ] || { echo "it needs nothing at all: readelf was not understood"; failed=1; }
foreign=$(grep -Ev "^(libc|libm|libdl|librt|libpthread|libgcc_s|ld-linux-[a-z0-9-]*${3:+|$3})\.so" <<< "$needed")
[ -z "$foreign" ] || { echo "it needs: $foreign"; failed=1; }
[ "$failed" = 0 ] && echo "one function exported; needs:" $needed
exit "$failed"
