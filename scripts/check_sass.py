#!/usr/bin/env python3
"""Proves on a machine without a GPU what the compiler made of the CUDA kernels.

Compiles kernels/cuda/*.cu to machine code for one architecture and holds every kernel against the
promises in kernels/cuda/promises.txt: instructions that it must contain, at most so many registers
a thread; and, for all, no spilled register, no local memory, no floating-point atomic, no
compare-and-swap (behind which one may hide), and no warning of ptxas that wgmma or setmaxnreg were
slowed down. A kernel without a promise fails, and so does a promise without a kernel.

    check_sass.py --arch 80 [--nvcc nvcc] [--root DIR] [--work DIR] [--jobs 2]
    check_sass.py --self-test [--nvcc nvcc]     kernels that break each rule must be found

Exit: 0 all kept, 1 something broken, 77 no nvcc or no kernels (CTest's skip).

There is no disassembler in it: an instruction of sm_70 and later has 16 bytes, and the lowest 12
bits of the first 8 are its operation. The codes below were found by compiling one kernel for each.
"""
import argparse
import concurrent.futures
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter

OPERATIONS = {  # what a promise may name
    "HMMA": {0x23C},  # mma.sync
    "HGMMA": {0x9F0, 0xDF0},  # wgmma, A in shared memory or in registers
    "LDSM": {0x83B},  # ldmatrix
    "LDGSTS": {0xFAE},  # cp.async
    "UTMALDG": {0x5B4},  # TMA load
    "UTMASTG": {0x3B5},  # TMA store
    "USETMAXREG": {0x9C8},
    "MUFU": {0x308},
    "SHFL": {0xF89},
}
LOCAL_MEMORY = {0x983: "LDL", 0x387: "STL"}
FLOAT_ATOMICS = {0x9A6: "RED", 0x9A3: "ATOMG", 0x9A2: "ATOMG of halves"}  # sm_90 and later
ANY_ATOMICS = {0x98E: "RED", 0x9A8: "ATOMG"}  # before: the type stands in bits 73 to 75
FLOAT_TYPES = {3, 4, 6, 7}  # f32, f16, f64, bf16; integers are 0 u32, 1 s32, 2 u64, 5 s64
FORBIDDEN = {
    0x3A9: "ATOMG.CAS",
    0x38D: "ATOMS.CAS",
    0x58D: "ATOMS.CAS",
    0x38B: "ATOM.CAS",
    0x3AA: "ATOM of halves",
    0x3BB: "UBLKRED (bulk reduction)",
}
BAD_WARNINGS = re.compile(r"\(?C75\d\d\)?")

SECTION_HEADER_BYTES = 64


class Kernel:
    """What ptxas said and what the machine code holds of one function."""

    def __init__(self, symbol):
        self.symbol, self.name = symbol, symbol
        self.registers = self.stack = self.spilled = 0
        self.is_entry = False
        self.operations = Counter()
        self.atomics = Counter()


def short_name(demangled):
    """'void f<(mode)1, __nv_bfloat16>(float*)' -> 'f<1,bf16>'"""
    name = demangled.replace("(anonymous namespace)::", "").replace("__nv_bfloat16", "bf16")
    name = re.sub(r"\([A-Za-z_][\w: ]*\)(?=-?\d)", "", name)
    depth = 0
    for at, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            name = name[:at]
            break
    return re.sub(r"^[\w: ]+ (?=[\w:]+(<|$))", "", name).replace(" ", "")


def read_sections(path):
    """(name, bytes) of each section of an ELF64 file."""
    data = path.read_bytes()
    start = struct.unpack_from("<Q", data, 0x28)[0]
    count, names_at = struct.unpack_from("<HH", data, 0x3C)
    headers = [
        struct.unpack_from("<IIQQQQ", data, start + SECTION_HEADER_BYTES * i)
        for i in range(count)
    ]
    names = headers[names_at][4]
    for header in headers:
        begin = names + header[0]
        name = data[begin : data.index(b"\0", begin)].decode()
        yield name, data[header[4] : header[4] + header[5]]


def count_operations(kernel, code):
    for at in range(0, len(code), 16):
        low, high = struct.unpack_from("<QQ", code, at)
        operation = low & 0xFFF
        kernel.operations[operation] += 1
        if operation in FLOAT_ATOMICS:
            kernel.atomics[FLOAT_ATOMICS[operation] + " on a float"] += 1
        elif operation in ANY_ATOMICS and (high >> 9) & 7 in FLOAT_TYPES:
            kernel.atomics[ANY_ATOMICS[operation] + " on a float"] += 1
        elif operation in FORBIDDEN:
            kernel.atomics[FORBIDDEN[operation]] += 1


def read_ptxas(log, kernels):
    """Fills registers, stack and spills from the output of -Xptxas -v."""
    current = None
    for line in log.splitlines():
        if found := re.search(r"Compiling entry function '(\S+)'", line):
            current = kernels.setdefault(found[1], Kernel(found[1]))
            current.is_entry = True
        elif found := re.search(r"Function properties for '?([^\s']+)'?", line):
            current = kernels.setdefault(found[1], Kernel(found[1]))
        elif found := re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line
        ):
            current.stack = int(found[1])
            current.spilled = int(found[2]) + int(found[3])
        elif found := re.search(r"Used (\d+) registers", line):
            current.registers = int(found[1])


def compile_one(nvcc, source, root, arch, work):
    """Machine code and log of one file: (kernels, problems)."""
    cubin = work / (source.stem + f".{arch}.cubin")
    command = [
        nvcc, "-std=c++17", "-O3", "-Xptxas", "-v", f"-I{root}", "-Xcompiler",
        "-fno-threadsafe-statics,-fno-exceptions,-fno-rtti",
        f"-gencode=arch=compute_{arch},code=sm_{arch}", "-cubin", "-o", str(cubin), str(source),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    log = done.stdout + done.stderr
    if done.returncode != 0:
        return {}, [f"{source.name} does not compile for sm_{arch}:\n{log}"]
    problems = [
        f"{source.name}: {line.strip()}" for line in log.splitlines() if BAD_WARNINGS.search(line)
    ]
    kernels = {}
    read_ptxas(log, kernels)
    for name, code in read_sections(cubin):
        if name.startswith(".text."):
            symbol = name[len(".text.") :]
            count_operations(kernels.setdefault(symbol, Kernel(symbol)), code)
    return kernels, problems


def demangle(kernels):
    if not kernels or not shutil.which("c++filt"):
        return
    symbols = [kernel.symbol for kernel in kernels]
    done = subprocess.run(
        ["c++filt"], input="\n".join(symbols), capture_output=True, text=True, check=True
    )
    for kernel, name in zip(kernels, done.stdout.splitlines()):
        kernel.name = short_name(name)


class Promise:
    """One line of the table: kernels, architectures, registers, instructions."""

    def __init__(self, line, place):
        fields = line.split()
        if len(fields) < 3:
            raise ValueError(f"{place}: a line has kernel, architectures, registers, instructions")
        self.place, self.text = place, fields[0]
        self.kernel = re.compile(fields[0])
        self.archs = fields[1].split(",")
        self.registers = int(fields[2])
        self.needs = fields[3:]
        for need in self.needs:
            if need != "stack" and need not in OPERATIONS:
                raise ValueError(f"{place}: unknown word {need}: {' '.join(OPERATIONS)} stack")

    def is_for(self, arch):
        return "*" in self.archs or arch in self.archs


def read_promises(path):
    promises = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if line:
            promises.append(Promise(line, f"{path.name}:{number}"))
    return promises


def broken(kernel, promises, arch):
    """What one kernel does not keep."""
    found = [p for p in promises if p.is_for(arch) and p.kernel.fullmatch(kernel.name)]
    if not found and kernel.is_entry:
        return [
            "no promise is made for it: add a line to kernels/cuda/promises.txt "
            f"(it uses {kernel.registers} registers)"
        ]
    problems = []
    may_use_stack = any("stack" in p.needs for p in found)
    if kernel.spilled:
        problems.append(f"spills {kernel.spilled} bytes of registers")
    if kernel.stack and not may_use_stack:
        problems.append(f"has a stack frame of {kernel.stack} bytes")
    for operation, name in LOCAL_MEMORY.items():
        if kernel.operations[operation] and not may_use_stack:
            problems.append(f"uses local memory: {kernel.operations[operation]} {name}")
    problems += [f"{count} {name}" for name, count in kernel.atomics.items()]
    for promise in found:
        if kernel.registers > promise.registers:
            problems.append(
                f"uses {kernel.registers} registers, {promise.registers} are promised "
                f"({promise.place})"
            )
        for need in promise.needs:
            codes = OPERATIONS.get(need, set())
            if codes and not any(kernel.operations[code] for code in codes):
                problems.append(f"contains no {need} ({promise.place})")
    return problems


def check(nvcc, root, sources, promises, arch, work, jobs):
    """Compiles the sources and returns (kernels, problems)."""
    kernels, problems = [], []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda s: compile_one(nvcc, s, root, arch, work), sources)
        for found, bad in results:
            kernels += found.values()
            problems += bad
    demangle(kernels)
    kernels.sort(key=lambda kernel: kernel.name)
    for kernel in kernels:
        problems += [f"{kernel.name}: {text}" for text in broken(kernel, promises, arch)]
    for promise in promises:
        if promise.is_for(arch) and not any(promise.kernel.fullmatch(k.name) for k in kernels):
            problems.append(f"{promise.place}: no kernel is called {promise.text}")
    return kernels, problems


def describe(kernel):
    used = [
        f"{sum(kernel.operations[c] for c in codes)} {name}"
        for name, codes in OPERATIONS.items()
        if any(kernel.operations[c] for c in codes)
    ]
    return f"  {kernel.name:<56} {kernel.registers:>3} registers  {', '.join(used)}"


PROBE_HEAD = "enum { N = 40, MANY = 200 };\n"
INDEXED_BODY = (
    "float r[N]; for (int i = 0; i < N; i++) r[i] = 0;\n"
    "for (int i = 0; i < N; i++) r[(unsigned)p[i] % N] += p[i + 99];\n"
    "for (int i = 0; i < N; i++) p[i] = r[i];"
)
# Each kernel breaks one rule, which must be found; "" must be clean. promise, body, what is said
PROBES = {
    "clean": ("clean * 255", "p[threadIdx.x] = 1;", ""),
    "integer": ("integer * 255", "atomicAdd((int *)p, 1);", ""),
    "shuffled": (
        "shuffled * 255 SHFL",
        "p[threadIdx.x] = __shfl_xor_sync(0xffffffffu, p[threadIdx.x], 1);",
        "",
    ),
    "spilling": (
        "spilling * 255",
        "float r[MANY]; for (int i = 0; i < MANY; i++) r[i] = p[i * 999];\n"
        "for (int k = 0; k < 9; k++) { __syncthreads();\n"
        '_Pragma("unroll") for (int i = 0; i < MANY; i++) r[i] += r[(i * 7 + 3) % MANY] * p[k]; }\n'
        "for (int i = 0; i < MANY; i++) p[i * 999 + 1] = r[i];",
        "spills",
    ),
    "indexing": (
        "indexing * 255",
        INDEXED_BODY,
        "stack frame",
    ),
    "indexing_allowed": (
        "indexing_allowed * 255 stack",
        INDEXED_BODY,
        "",
    ),
    "float_red": ("float_red * 255", "atomicAdd(p, 1.5f);", "on a float"),
    "double_red": ("double_red * 255", "atomicAdd((double *)p, 1.5);", "on a float"),
    "float_atom": ("float_atom * 255", "p[9] = atomicAdd(p, 1.5f);", "on a float"),
    "shared_sum": (
        "shared_sum * 255",
        "__shared__ float s[2]; if (threadIdx.x < 2) s[threadIdx.x] = 0; __syncthreads();\n"
        "atomicAdd(s + threadIdx.x % 2, p[threadIdx.x]); __syncthreads(); p[0] = s[0] + s[1];",
        "ATOMS.CAS",
    ),
    "swapping": ("swapping * 255", "p[9] = atomicCAS((int *)p, 1, 2);", "ATOMG.CAS"),
    "no_mma": ("no_mma * 255 HMMA", "p[threadIdx.x] = 1;", "contains no HMMA"),
    "no_copy": ("no_copy * 255 LDGSTS", "p[threadIdx.x] = 1;", "contains no LDGSTS"),
    "wide": ("wide * 4", "p[threadIdx.x] = 1;", "registers, 4 are promised"),
    "unpromised": ("", "p[threadIdx.x] = 1;", "no promise is made"),
    "absent": ("somebody_else * 255", None, "no kernel is called somebody_else"),
}


def self_test(nvcc, work):
    failures = 0
    source = work / "probe.cu"
    text = PROBE_HEAD
    for name, (_, body, _) in PROBES.items():
        bounds = "__launch_bounds__(1024)" if name == "spilling" else ""
        if body is not None:
            text += f'extern "C" __global__ void {bounds} {name}(float *p) {{ {body} }}\n'
    source.write_text(text)
    promises = [Promise(p, name) for name, (p, _, _) in PROBES.items() if p]
    for arch in ("80", "89", "90a", "100"):
        kernels, problems = check(nvcc, work, [source], promises, arch, work, 1)
        if len(kernels) != sum(body is not None for _, body, _ in PROBES.values()):
            print(f"sm_{arch}: {len(kernels)} kernels were found in the probe; {problems}")
            failures += 1
        for name, (_, _, wanted) in PROBES.items():
            said = [p for p in problems if p.startswith(f"{name}: ")]
            good = any(wanted in p for p in said) if wanted else not said
            if not good:
                print(f"sm_{arch}: {name}: {said or 'nothing'} was said, not {wanted or 'nothing'}")
                failures += 1
    logs = {"(C7508) Potential Performance Loss: 'setmaxnreg' ignored": True, "C7600": False}
    for log, bad in logs.items():
        if bool(BAD_WARNINGS.search(log)) != bad:
            print(f"the line {log!r} is misjudged")
            failures += 1
    print(f"{len(PROBES)} probes on 4 architectures, {failures} misjudged")
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--arch", help="80, 89, 90, 90a, 100")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).parents[1])
    parser.add_argument("--work", type=pathlib.Path, help="keep the machine code here")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--self-test", action="store_true")
    args = parser.parse_args()
    nvcc = shutil.which(args.nvcc)
    if not nvcc:
        print("skipped: no nvcc, so nothing can be said about the machine code of the kernels")
        return 77
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or pathlib.Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        if args.self_test:
            return self_test(nvcc, work)
        if not args.arch:
            parser.error("--arch or --self-test")
        folder = args.root / "kernels" / "cuda"
        promises = read_promises(folder / "promises.txt")
        sources = sorted(folder.glob("*.cu"), key=lambda s: -s.stat().st_size)
        if not sources:
            print(f"skipped: there is no kernel in {folder}")
            return 77
        kernels, problems = check(nvcc, args.root, sources, promises, args.arch, work, args.jobs)
    print(f"sm_{args.arch}: {len(sources)} files, {len(kernels)} functions")
    for kernel in kernels:
        print(describe(kernel))
    for problem in problems:
        print(f"BROKEN  {problem}")
    print(f"{len(problems)} promises broken" if problems else "all promises kept")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
