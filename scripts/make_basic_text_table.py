#!/usr/bin/env python3
"""Writes data/basic_text_class.c and data/basic_text_map.c: what BERT's text rules do with each code point.

The rules name Unicode categories, and the reference, Hugging Face's `tokenizers` package, has them from several Unicode
versions (punctuation and marks of an old one, lower case of a new one, one range of Chinese characters misspelled). So the
table is asked of the reference itself, code point by code point, and ids do not depend on any other Unicode library.
usage: make_basic_text_table.py data; clang-format -i data/basic_text_class.c data/basic_text_map.c
The committed tables were made with tokenizers 0.23.3.
"""
import pathlib
import sys
import unicodedata

import tokenizers
from tokenizers.normalizers import NFD, BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

WORD, SPACE, PUNCTUATION, CHINESE, REMOVED, MARK, MARK_STARTER, LATE = range(8)
HANGUL = range(0xAC00, 0xD7A4)
CODE_POINTS = [cp for cp in range(0x110000) if not 0xD800 <= cp < 0xE000]


def rules(**wanted):
    keys = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
    return BertNormalizer(**{key: wanted.get(key, False) for key in keys})


CLEAN, SPACED, STRIP, LOWER = rules(clean_text=True), rules(handle_chinese_chars=True), rules(strip_accents=True), rules(lowercase=True)
DECOMPOSE, WORDS = NFD(), BertPreTokenizer()


def inside(normalizer, cp):
    """What becomes of the code point between two letters."""
    text = normalizer.normalize_str("a" + chr(cp) + "b")
    assert text[0] == "a" and text[-1] == "b", hex(cp)
    return text[1:-1]


def one_of_each_class():
    """A code point for each canonical combining class that the reference knows, too."""
    found = {}
    for cp in range(0x300, 0x1E000):
        number, c = unicodedata.combining(chr(cp)), chr(cp)
        if number and (number == 240 or DECOMPOSE.normalize_str("\u0345" + c) == c + "\u0345"):
            found.setdefault(number, c)
    return found


def combining_class(cp, known):
    """0 for a starter; otherwise the largest class that the code point does not go before."""
    c = chr(cp)
    last = known[max(known)]
    if c != last and DECOMPOSE.normalize_str(last + c) != c + last and DECOMPOSE.normalize_str(c + known[1]) != known[1] + c:
        return 0
    return max([number for number, k in known.items() if DECOMPOSE.normalize_str(k + c) == k + c], default=0)


def character_class(cp, known):
    cleaned = inside(CLEAN, cp)
    if cleaned == "":
        return REMOVED
    if cleaned == " ":
        return SPACE
    assert cleaned == chr(cp)
    if inside(SPACED, cp) == " " + chr(cp) + " ":
        return CHINESE
    if [word for word, _ in WORDS.pre_tokenize_str("a" + chr(cp) + "b")] == ["a", chr(cp), "b"]:
        assert combining_class(cp, known) == 0
        return PUNCTUATION
    if inside(DECOMPOSE, cp) != chr(cp):
        return WORD
    number = combining_class(cp, known)
    if inside(STRIP, cp) == "":
        return MARK if number else MARK_STARTER
    return LATE if number else WORD


def lower_ranges(pairs):
    """Runs of (code point, its lower case) with one step and one difference: first, last, step, difference."""
    ranges = []
    for cp, to in pairs:
        if ranges:
            first, last, step, difference = ranges[-1]
            if to - cp == difference and (cp - last == step or (first == last and cp - last in (1, 2))):
                ranges[-1] = (first, cp, cp - last, difference)
                continue
        ranges.append((cp, cp, 1, to - cp))
    return ranges


def class_tables(classes):
    blocks, index = {}, []
    for start in range(0, 0x110000, 256):
        words = tuple(sum(classes.get(start + 16 * w + i, WORD) << 4 * i for i in range(16)) for w in range(16))
        index.append(blocks.setdefault(words, len(blocks)))
    assert len(blocks) < 256
    yield f"const uint8_t seo_basic_index[{len(index)}] = {{{', '.join(map(str, index))}}};"
    yield "const uint64_t seo_basic_blocks[][16] = {"
    for words in blocks:
        yield f"{{{', '.join(f'0x{w:x}' for w in words)}}},"
    yield "};"


def pairs(parts):
    """Canonical decompositions into one or two, which may decompose further."""
    whole = {text: cp for cp, text in parts.items()}
    for cp, text in sorted(parts.items()):
        first = ord(text[0]) if len(text) <= 2 else whole[text[:-1]]
        yield cp << 42 | first << 21 | (ord(text[-1]) if len(text) > 1 else 0)


def map_tables(late, parts, lower):
    yield f"const seo_basic_late seo_basic_lates[] = {{{', '.join(f'{{0x{cp:x}, {n}}}' for cp, n in late)}}};"
    yield f"const int32_t seo_basic_late_count = {len(late)};"
    yield f"const uint64_t seo_basic_pairs[] = {{{', '.join(f'0x{pair:x}' for pair in pairs(parts))}}};"
    yield f"const int32_t seo_basic_pair_count = {len(parts)};"
    ranges = lower_ranges([(cp, ord(text)) for cp, text in sorted(lower.items())])
    rows = ", ".join(f"{{0x{a:x}, 0x{b:x}, {s}, {d}}}" for a, b, s, d in ranges)
    yield f"const seo_basic_lower seo_basic_lowers[] = {{{rows}}};"
    yield f"const int32_t seo_basic_lower_count = {len(ranges)};"


def write(path, lines):
    head = f"/* Generated by scripts/make_basic_text_table.py from tokenizers {tokenizers.__version__}; do not edit. */"
    path.write_text("\n".join([head, '#include "data/basic_text_table.h"', "", *lines, ""]))


def main():
    folder = pathlib.Path(sys.argv[1])
    known = one_of_each_class()
    classes = {cp: character_class(cp, known) for cp in CODE_POINTS}
    late = [(cp, combining_class(cp, known)) for cp in CODE_POINTS if classes[cp] == LATE]
    parts = {cp: inside(DECOMPOSE, cp) for cp in CODE_POINTS if cp not in HANGUL}
    parts = {cp: text for cp, text in parts.items() if text != chr(cp)}
    lower = {cp: inside(LOWER, cp) for cp in CODE_POINTS}
    lower = {cp: text for cp, text in lower.items() if text != chr(cp)}
    assert lower.pop(0x130) == "i\u0307" and all(len(text) == 1 for text in lower.values())
    write(folder / "basic_text_class.c", class_tables(classes))
    write(folder / "basic_text_map.c", map_tables(late, parts, lower))


main()
