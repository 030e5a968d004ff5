"""For hf_families.sh: a folder as transformers saves it (make), and what came of it (compare). Needs no library.

usage: hf_families.py ids GOLDEN | make GOLDEN FOLDER TOKENIZER | logits GOLDEN LOGITS | same FOLDER FOLDER |
       hf_families.py change FOLDER NEW_FOLDER old|bare|tagger
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


def write(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, value) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(value)]}
        data += value
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def make(golden, folder, tokenizer):
    os.makedirs(folder)
    tensors = {}
    for name, shape in golden["tensors"].items():
        count = 1
        for size in shape:
            count *= size
        tensors[name] = ("F32", shape, struct.pack(f"<{count}f", *values(name, count)))
    write(os.path.join(folder, "model.safetensors"), tensors)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(golden["config"], file)
    name = "vocab.txt" if tokenizer.endswith(".txt") else "tokenizer.json"
    shutil.copy(tokenizer, os.path.join(folder, name))


def change(first, second, how):
    """Of a BERT. old: as files of 2018 name and repeat things. bare: the encoder without its heads. tagger: another head."""
    shutil.copytree(first, second)
    path = os.path.join(second, "model.safetensors")
    tensors = read(path)
    if how == "old":
        gamma = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for name in list(tensors):
            for new, old in gamma.items():
                if name.endswith(new):
                    tensors[name.replace(new, old)] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = ("I64", [1, 40], bytes(320))
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"]
    else:
        tensors = {name.removeprefix("bert."): t for name, t in tensors.items() if not name.startswith("cls.")}
    if how == "tagger":
        tensors = {"bert." + name: t for name, t in tensors.items()}
        tensors["classifier.weight"], tensors["classifier.bias"] = ("F32", [2, 32], bytes(256)), ("F32", [2], bytes(8))
        config = os.path.join(second, "config.json")
        with open(config, encoding="utf-8") as file:
            text = file.read().replace("BertForPreTraining", "BertForTokenClassification")
        with open(config, "w", encoding="utf-8") as file:
            file.write(text)
    write(path, tensors)


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
        if key.endswith("token_id") or a[key] is None:  # the tokenizer's, which is another here; what was left open
            continue
        assert a[key] == b[key] and type(a[key]) is type(b[key]), f"{key}: {a[key]!r}, then {b[key]!r}"


def main():
    what, first, *rest = sys.argv[1:]
    if what in ("same", "change"):
        dict(same=same, change=change)[what](first, *rest)
        return
    with open(first, encoding="utf-8") as file:
        golden = json.load(file)
    if what == "ids":
        print(*golden["ids"])
    else:
        dict(make=make, logits=logits)[what](golden, *rest)


if __name__ == "__main__":
    main()
