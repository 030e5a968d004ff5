#!/usr/bin/env python3
"""Fails on an include that points up the layer order, and on a circle of includes.

The order is base <- {kernels, data} <- train. kernels and data never meet; the backends under kernels/ (cpu, cuda, comm) never meet;
train sees of kernels only kernels/kernels.h. The build system cannot enforce this, because all rooms share one include root.

usage: check_layers.py ROOT [--self-test]
"""
import pathlib
import re
import sys
import tempfile

# room -> prefixes it may include. The longest matching room owns a file.
ALLOWED = {
    "base": ["base/"],
    "kernels": ["base/", "kernels/"],
    "kernels/cpu": ["base/", "kernels/cpu/", "kernels/backend.h", "kernels/kernels.h", "kernels/ops.h",
                    "kernels/device.h", "kernels/ops.def", "kernels/fold.h"],
    "kernels/cuda": ["base/", "kernels/cuda/", "kernels/backend.h", "kernels/kernels.h", "kernels/ops.h",
                     "kernels/device.h", "kernels/ops.def", "kernels/comm_backend.h", "kernels/plugin.h"],
    "kernels/comm": ["base/", "kernels/comm/", "kernels/comm.h", "kernels/device.h", "kernels/fold.h",
                     "kernels/comm_backend.h", "kernels/plugin.h", "kernels/ops.h"],
    "data": ["base/", "data/"],
    "train": ["base/", "data/", "train/", "kernels/kernels.h"],
    "tests": [""],
}
FORBIDDEN = {"kernels": ["kernels/cpu/", "kernels/cuda/", "kernels/comm/"]}
SUFFIXES = (".c", ".h", ".cu", ".cuh", ".def")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def room_of(path):
    return max((room for room in ALLOWED if path.startswith(room + "/")), key=len, default=None)


def includes(root):
    """{file: [(line number, target)]} for every source file in a room."""
    found = {}
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root).as_posix()
        if file.suffix not in SUFFIXES or room_of(name) is None:
            continue
        lines = file.read_text(errors="replace").splitlines()
        found[name] = [(number, match.group(1)) for number, line in enumerate(lines, 1)
                       if (match := INCLUDE.match(line))]
    return found


def upward(graph):
    for name, lines in graph.items():
        room = room_of(name)
        for number, target in lines:
            allowed = any(target.startswith(prefix) for prefix in ALLOWED[room])
            if not allowed or any(target.startswith(prefix) for prefix in FORBIDDEN.get(room, [])):
                yield f"{name}:{number}: {room}/ may not include {target}"


def circles(graph):
    state = {}

    def visit(name, trail):
        state[name] = "open"
        for _, target in graph.get(name, []):
            if target.endswith(".def"):
                continue  # an X-macro list is included on purpose from inside the headers it feeds
            if state.get(target) == "open":
                yield "circle: " + " -> ".join(trail[trail.index(target):] + [target])
            elif target in graph and target not in state:
                yield from visit(target, trail + [target])
        state[name] = "done"

    for name in graph:
        if name not in state:
            yield from visit(name, [name])


def check(root):
    graph = includes(root)
    if not graph:
        return [f"{root}: no sources found"]
    return list(upward(graph)) + list(circles(graph))


def self_test():
    """The check must find what it exists for."""
    bad = {
        "base/a.c": '#include "data/x.h"\n',
        "data/b.c": '#include "kernels/kernels.h"\n',
        "train/c.c": '#include "kernels/backend.h"\n',
        "kernels/d.c": '#include "kernels/cpu/cpu.h"\n',
        "train/e.h": '#include "train/f.h"\n',
        "train/f.h": '#include "train/e.h"\n',
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, text in bad.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        found = check(pathlib.Path(folder))
    assert len(found) == 5, found


def main():
    self_test()
    problems = check(pathlib.Path(sys.argv[1]))
    print("\n".join(problems) or "layers: ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
