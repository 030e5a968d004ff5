#!/usr/bin/env python3
"""What a model must beat: bits per byte of a byte trigram and of `xz -9` on held-out text, both knowing the training text.

  trigram  P(byte | two bytes before), counted on the training text, Witten-Bell interpolation with bigram, unigram, uniform
  xz -9    8 * (size of xz(training + held-out) - size of xz(training)) / bytes of held-out

usage: baseline.py TRAIN.txt HELD_OUT.txt
"""
import collections
import math
import pathlib
import subprocess
import sys


def context_counts(data, order):
    """{context: (total, distinct followers)} and {context + byte: count}."""
    grams = collections.Counter(data[i:i + order + 1] for i in range(len(data) - order))
    totals, kinds = collections.Counter(), collections.Counter()
    for gram, count in grams.items():
        totals[gram[:order]] += count
        kinds[gram[:order]] += 1
    return grams, totals, kinds


def trigram_bits_per_byte(train, held_out):
    tables = [context_counts(train, order) for order in range(3)]
    cache = {}

    def probability(gram):
        if gram not in cache:
            p = 1.0 / 256
            for order, (grams, totals, kinds) in enumerate(tables):
                if order >= len(gram):
                    break
                part = gram[len(gram) - 1 - order:]
                total, distinct = totals[part[:order]], kinds[part[:order]]
                if total:
                    p = (grams[part] + distinct * p) / (total + distinct)
            cache[gram] = p
        return cache[gram]

    bits = sum(-math.log2(probability(held_out[max(0, i - 2):i + 1])) for i in range(len(held_out)))
    return bits / len(held_out)


def xz_bytes(data):
    return len(subprocess.run(["xz", "-9", "--stdout"], input=data, capture_output=True, check=True).stdout)


def main():
    if len(sys.argv) != 3:
        print(__doc__.strip().splitlines()[-1], file=sys.stderr)
        return 2
    train, held_out = (pathlib.Path(name).read_bytes() for name in sys.argv[1:])
    if not train or not held_out:
        print("error: both texts must have bytes", file=sys.stderr)
        return 1
    print(f"byte trigram   {trigram_bits_per_byte(train, held_out):.3f} bits per byte")
    print(f"xz -9          {8 * (xz_bytes(train + held_out) - xz_bytes(train)) / len(held_out):.3f} bits per byte")
    return 0


if __name__ == "__main__":
    sys.exit(main())
