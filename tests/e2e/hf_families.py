"""For hf_families.sh: a folder as transformers saves it (make), and what came of it (compare). Needs no library.

usage: hf_families.py ids GOLDEN | make GOLDEN FOLDER TOKENIZER | logits GOLDEN LOGITS | same FOLDER FOLDER
"""
import json
import os
import shutil
import struct
import sys

from hf_formula import values

# As in tests/train/test_golden.c: logits are sums of about 4 x 32 products through few blocks, rounded to float32 each.
RELATIVE = 8 * 2**-23 * (4 * 32) ** 0.5 * 4


def read(path):
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__")
    return {name: (e["dtype"], e["shape"], data[slice(*e["data_offsets"])]) for name, e in header.items()}


def make(golden, folder, tokenizer):
    os.makedirs(folder)
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, shape in golden["tensors"].items():
        count = 1
        for size in shape:
            count *= size
        value = struct.pack(f"<{count}f", *values(name, count))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(value)]}
        data += value
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(golden["config"], file)
    shutil.copy(tokenizer, os.path.join(folder, "tokenizer.json"))


def logits(golden, path):
    with open(path, "rb") as file:
        data = file.read()
    assert len(data) == 4 * golden["count"], f"{len(data) // 4} logits, not {golden['count']}"
    got = struct.unpack(f"<{golden['count']}f", data)
    pairs = list(zip(got[::golden["every"]], golden["logits"])) + list(zip(got[-2:], golden["last"]))
    off = max(abs(a - b) for a, b in pairs)
    largest = max(abs(b) for _, b in pairs)
    assert off <= RELATIVE * largest, f"logits are off by {off} of {largest}"
    print(f"{len(pairs)} logits within {off:.1e} of {largest:.2f}")


def same(first, second):
    a, b = (read(os.path.join(folder, "model.safetensors")) for folder in (first, second))
    assert a == b, f"tensors differ: {sorted(set(a) ^ set(b)) or [n for n in a if a[n] != b[n]]}"
    a, b = (json.load(open(os.path.join(folder, "config.json"), encoding="utf-8")) for folder in (first, second))
    for key in sorted(set(a) & set(b)):
        if key.endswith("token_id"):  # the tokenizer's, which is another here
            continue
        assert a[key] == b[key] and type(a[key]) is type(b[key]), f"{key}: {a[key]!r}, then {b[key]!r}"


def main():
    what, first, *rest = sys.argv[1:]
    if what == "same":
        same(first, *rest)
        return
    with open(first, encoding="utf-8") as file:
        golden = json.load(file)
    if what == "ids":
        print(*golden["ids"])
    else:
        dict(make=make, logits=logits)[what](golden, *rest)


if __name__ == "__main__":
    main()
