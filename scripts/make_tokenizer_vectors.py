#!/usr/bin/env python3
"""Writes texts and their ids by Hugging Face's `tokenizers` package, a JSON object a line, for tests without the network.

usage: make_tokenizer_vectors.py [--special] TOKENIZER.json [FILE.inp] > VECTORS.jsonl
FILE.inp holds more texts, parted by lines "__ggml_vocab_test__". With --special, text spelled like a special token is one.
tests/golden/tokenizer_small_vectors.jsonl: of tokenizer_small.json.   tokenizer_small_roberta_vectors.jsonl: --special, of
    `seodang tokenizer train --special roberta --vocab-size 400` on tokenizer_small.txt.
wordpiece_small_vectors.jsonl: of wordpiece_small.json, _cased_: of wordpiece_small_cased.json.
wordpiece_bert_vectors.jsonl: of `seodang tokenizer convert --bert` of bert-base-uncased's vocab.txt, with the texts of
    llama.cpp's ggml-vocab-*.gguf.inp. The vocabulary is not committed.
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

# What BERT's text rules treat in a way of their own.
BERT_PIECES = [
    "[MASK]", "[CLS]", "##ing", "#", "un", "affable", "Á", "ÀÉÎÕÜ", "naïve", "Ǖ", "A\u030a", "ﬁ", "İstanbul", "ıI", "ΑΣ", "ς", "ẞ", "Ǆ",
    "ё", "Й", "Ё", "ȷ", "ﷺ", "q\u0323\u0307", "q\u0307\u0323", "\u0301", " \u0301a", "\u0344", "a\u0345\u0301", "क\u094d\u093fष", "ก\u0e33",
    "\u302e\u302f", "\U0001d15e\U0001d165", "\U0001d16d\U0001d165\U0001d16e", "\u0f71\u0f72\u0f74", "\u1b44\u302e\u1baa",
    "a\u1b44\u0316\u302e", "a\u302e\u0f35\u1b44", "\u3099か", "が", "ガ", "ｶﾞ", "（", "｡", "　", "、", "你好", "中a文", "㐀", "䶿", "鿿",
    "\U00020000", "\U0002b820", "\U0002b920", "\U0002f800", "豈", "﨎", "ꙮ", "각", "가", "힣", "ᄀ\u1161\u11a8", "ㄱ", "\u115f",
    "≠", "≮", "\u037e", "\u1fef", "\u0387", "‥", "…", "‽", "«»", "“”", "—", "_", "$", "^", "`", "|", "~", "+", "<>", "=", "¬", "×", "÷",
    "£", "€", "\u055a", "\u061d", "\u09fd", "\u2e42", "\u2e43", "\U000110be", "\U00010100", "\U0001e95e", "\U0001144b", "\u166d",
    "\u00ad", "\u200c", "\u200d", "\u2060", "\u202e", "\ufffd", "\ue000", "\U000f0000", "\U0010ffff", "\u0378", "\ufdd0", "\uffff", "\u180e",
    "\u0600", "\u06dd", "\u070f", "\u08e2", "\U000e0001", "\ufe0f", "\U000e0100", "\x0b", "\x0c", "\x1f", "\x7f", "\x9f", "\u1680", "\u2007",
    "👍🏽", "🇰🇷", "❤\ufe0f", "𝔘nicode", "𝓗ello", "Ⓐ", "Ａｂｃ", "Ꭰ", "ꭰ", "\u10a0", "\u1c90", "\U00010400", "\U0001e900", "\u1e9e", "\ua7ae",
    "\u1734", "\u1715", "\u0300", "\u05b0ב", "עִבְרִית", "العَرَبِيَّة", "ไทยนี้", "Tiếng Việt", "ơ\u0323", "y" * 100, "z" * 101, "é" * 100, "é" * 101,
    "각" * 34, "w" * 250]


def given(path):
    return open(path, encoding="utf-8", newline="").read().split("\n__ggml_vocab_test__\n") if path else []


def main():
    arguments = [a for a in sys.argv[1:] if a != "--special"]
    tokenizer = tokenizers.Tokenizer.from_file(arguments[0])
    # Special tokens in a text are text, as they are for us, unless asked for.
    tokenizer.encode_special_tokens = "--special" not in sys.argv
    bert = type(tokenizer.model).__name__ == "WordPiece"
    pieces = PIECES + BERT_PIECES if bert else PIECES
    if "--special" in sys.argv:
        pieces = pieces + ["<mask>", " <mask>", "\u3000 <mask>", "<s>", "</s>", "<pad>", "<mas"] * 4
    rng = random.Random(2)
    texts = ["", *pieces, *("".join(rng.choices(pieces, k=rng.randrange(2, 25))) for _ in range(150))]
    if bert:
        texts += ["a" + piece + "b" for piece in pieces] + ["".join(rng.choices(pieces, k=rng.randrange(2, 9))) for _ in range(300)]
    for text in texts + given(arguments[1] if len(arguments) > 1 else None):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        print(json.dumps({"text": text, "ids": ids}, ensure_ascii=True, separators=(",", ":")))


main()
