#!/usr/bin/env python3
"""Compares our ids with those of Hugging Face's `tokenizers` package for one tokenizer.json.

Both read the same file; the texts are lines of TEXT, random mixtures of its words with white space, contractions and
other scripts. usage: check_hf_tokenizer.py SEODANG TOKENIZER.json TEXT...   (needs: pip install tokenizers)
"""
import json
import pathlib
import random
import subprocess
import sys

import tokenizers

SPICE = ["'s", "'ll", "'S", "  ", "\t", "\n\n", "\r\n", "\u00a0", "\u3000", "\u200b", "\x85", "é", "ß", "한글", "日本", "½", "٣",
         "😀", "e\u0301", "!?", "...", "====", "<|endoftext|>", "1984", "x" * 200, " " * 50]


def texts(paths, count=6000):
    rng = random.Random(1)
    lines = [line for path in paths for line in pathlib.Path(path).read_text(errors="ignore").split("\n") if line]
    words = sorted({word for line in lines for word in line.split()})
    chosen = rng.sample(lines, min(len(lines), count // 2))
    while len(chosen) < count:
        pieces = [rng.choice((rng.choice(words), rng.choice(SPICE), " " + rng.choice(words))) for _ in range(rng.randrange(1, 40))]
        chosen.append("".join(pieces))
    return chosen


def ours(program, tokenizer, lines):
    command = [program, "tokenizer", "encode", "--jsonl", "--tokenizer", tokenizer]
    source = "".join(json.dumps({"text": line}) + "\n" for line in lines)
    output = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    return [json.loads(line)["ids"] for line in output.splitlines()]


def theirs(tokenizer, lines):
    loaded = tokenizers.Tokenizer.from_file(tokenizer)
    loaded.no_truncation()
    # Theirs makes special tokens of text that is spelled like one; ours only when asked.
    loaded.encode_special_tokens = True
    encoded = [loaded.encode(line, add_special_tokens=False).ids for line in lines]
    decoded = [loaded.decode(ids, skip_special_tokens=False) for ids in encoded]
    return encoded, decoded


def main():
    program, tokenizer, paths = sys.argv[1], sys.argv[2], sys.argv[3:]
    lines = texts(paths)
    mine = ours(program, tokenizer, lines)
    other, decoded = theirs(tokenizer, lines)
    wrong = [i for i in range(len(lines)) if mine[i] != other[i]]
    lost = [i for i in range(len(lines)) if decoded[i] != lines[i]]
    for i in wrong[:5]:
        print("different:", repr(lines[i]), mine[i], other[i])
    for i in lost[:5]:
        print("their decoding loses:", repr(lines[i]), repr(decoded[i]))
    total = sum(map(len, mine))
    print(f"{len(lines)} texts, {total} ids, {len(wrong)} different, {len(lost)} decoded otherwise (tokenizers {tokenizers.__version__})")
    return 1 if wrong or lost else 0


sys.exit(main())
