#!/usr/bin/env python3
"""Fails when ptx.cuh has a function that the conformance test does not call. usage: check_conformance.py ROOT"""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
defined = set(re.findall(r"PTX_FN [\w ]+\b(ptx_\w+)\(", (root / "kernels/cuda/ptx.cuh").read_text()))
called = set(re.findall(r"\bptx_\w+", (root / "tests/simt/conformance.cu").read_text()))
if not defined:
    sys.exit("no functions found in ptx.cuh")
missing = sorted(defined - called)
for name in missing:
    print(f"{name} has no case in tests/simt/conformance.cu")
print(f"conformance: {len(defined)} functions, {len(missing)} without a case")
sys.exit(1 if missing else 0)
