#!/usr/bin/env python3
"""Fails when a function, a file or a line is longer than the house allows.

Limits: 70 lines a function (60 for main, 120 for a __global__ kernel), 700 lines a file, 100 columns. An exception is
written as a comment `SIZE: reason` in the three lines above the function; every run lists them, so they stay few.
Needs universal-ctags; exits 77 (skipped) without it.

usage: check_size.py ROOT...
"""
import json
import pathlib
import shutil
import subprocess
import sys

FUNCTION, MAIN, KERNEL, FILE, COLUMNS = 70, 60, 120, 700, 100
SUFFIXES = (".c", ".h", ".cpp", ".cu", ".cuh")
CTAGS = ["ctags", "--output-format=json", "--fields=+ne", "--kinds-C=f", "--kinds-C++=f", "--langmap=C++:+.cu.cuh", "-f", "-"]


def sources(roots):
    return sorted(p for root in roots for p in pathlib.Path(root).rglob("*") if p.suffix in SUFFIXES)


def long_lines(path, lines):
    if len(lines) > FILE:
        yield f"{path}: {len(lines)} lines, limit {FILE}"
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            yield f"{path}:{number}: {len(line)} columns, limit {COLUMNS}"


def long_functions(files, exceptions):
    output = subprocess.run(CTAGS + [str(p) for p in files], capture_output=True, text=True, check=True).stdout
    for tag in map(json.loads, output.splitlines()):
        if "end" not in tag:
            continue
        lines = pathlib.Path(tag["path"]).read_text(errors="replace").splitlines()
        head = " ".join(lines[max(0, tag["line"] - 4):tag["line"]])
        limit = KERNEL if "__global__" in head else MAIN if tag["name"] == "main" else FUNCTION
        size = tag["end"] - tag["line"] + 1
        if size <= limit:
            continue
        text = f"{tag['path']}:{tag['line']}: {tag['name']} has {size} lines, limit {limit}"
        if "SIZE:" in head:
            exceptions.append(text)
        else:
            yield text


def main():
    if not shutil.which("ctags"):
        print("skipped: universal-ctags is not installed (apt-get install universal-ctags)")
        return 77
    files = sources(sys.argv[1:])
    if not files:
        print("no sources found")
        return 1
    exceptions = []
    problems = [text for p in files for text in long_lines(p, p.read_text(errors="replace").splitlines())]
    problems += list(long_functions(files, exceptions))
    for text in exceptions:
        print("exception:", text)
    print("\n".join(sorted(problems)) or f"sizes: ok ({len(files)} files)")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
