#!/usr/bin/env python3
"""Writes texts and their ids by Hugging Face's `tokenizers` package, a JSON object a line, for tests without the network.

usage: make_tokenizer_vectors.py tests/golden/tokenizer_small.json > tests/golden/tokenizer_small_vectors.jsonl
The committed vectors were made with tokenizers 0.23.3.
"""
import json
import random
import sys

import tokenizers

PIECES = ["the", "The", " the", "read", " reader", "rereading", "we'll", "they're", "'s", "'S", "'", "isn't", " 's", "1984", "3.14", "0",
          " ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", "\u00a0", "\u3000", "\u2028", "\u200b", "\ufeff", "\x85", "\x1c", ".", "...",
          "====", "--------", "!?", "{", "//", "é", "e\u0301", "ß", "größer", "서당", "읽는다", "子供", "本を", "Дети", "ا", "٣", "½", "Ⅷ",
          "😀", "👨‍👩‍👧", "x" * 90, "=" * 130, " " * 40, "ababab", "<|endoftext|>", "\u0000", "\u007f"]


def main():
    tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1])
    # Special tokens in a text are text, as they are for us.
    tokenizer.encode_special_tokens = True
    rng = random.Random(2)
    texts = ["", *PIECES, *("".join(rng.choices(PIECES, k=rng.randrange(2, 25))) for _ in range(150))]
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        print(json.dumps({"text": text, "ids": ids}, ensure_ascii=True, separators=(",", ":")))


main()
