#!/usr/bin/env python3
"""Compares our ids with those of Hugging Face's `tokenizers` package for one tokenizer.json.

Both read the same file; the texts are lines of TEXT, random mixtures of its words with white space, contractions and
other scripts, and for WordPiece every code point and random ones of all planes. usage: check_hf_tokenizer.py SEODANG TOKENIZER.json TEXT...   (needs: pip install tokenizers)
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


def strange_texts(count=200000):
    """Every code point between letters, and mixtures in which marks and letters of one block come together."""
    rng = random.Random(3)
    points = [cp for cp in range(0x110000) if not 0xD800 <= cp < 0xE000]
    chosen = ["".join(f"a{chr(cp)}b" for cp in points[at:at + 64]) for at in range(0, len(points), 64)]
    low = [cp for cp in points if cp < 0x20000]
    while len(chosen) < count:
        block = rng.choice(low) // 128 * 128
        near = [chr(cp) for cp in range(block, block + 128) if not 0xD800 <= cp < 0xE000] or ["a"]
        pool = [*rng.choices(near, k=6), *"aB .'", rng.choice(SPICE), chr(rng.choice(low)), chr(rng.randrange(0x300, 0x370)), "\u302e", "\u1b44"]
        chosen.append("".join(rng.choices(pool, k=rng.randrange(1, 14))))
    return chosen


def ours(program, tokenizer, verb, given, wanted, items):
    command = [program, "tokenizer", verb, "--jsonl", "--tokenizer", tokenizer]
    source = "".join(json.dumps({given: item}) + "\n" for item in items)
    output = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    return [json.loads(line)[wanted] for line in output.split("\n") if line]


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
    wordpiece = "WordPiece" in json.loads(pathlib.Path(tokenizer).read_text())["model"].get("type", "")
    if wordpiece:
        lines += strange_texts()
    mine = ours(program, tokenizer, "encode", "text", "ids", lines)
    other, decoded = theirs(tokenizer, lines)
    wrong = [i for i in range(len(lines)) if mine[i] != other[i]]
    back = ours(program, tokenizer, "decode", "ids", "text", other) if wordpiece else lines
    lost = [i for i in range(len(lines)) if decoded[i] != back[i]]
    for i in wrong[:5]:
        print("different:", repr(lines[i]), mine[i], other[i])
    for i in lost[:5]:
        print("their decoding loses:", repr(back[i]), repr(decoded[i]))
    total = sum(map(len, mine))
    print(f"{len(lines)} texts, {total} ids, {len(wrong)} different, {len(lost)} decoded otherwise (tokenizers {tokenizers.__version__})")
    return 1 if wrong or lost else 0


sys.exit(main())
