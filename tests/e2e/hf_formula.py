"""Values that any program can make again: what the golden models of tests/golden/hf/ are filled with."""
import zlib


def values(name, count):
    """`count` values of the tensor `name`, exact in float32: within 0.22 of 0, or of 1 where they scale a norm."""
    norm = name.endswith("weight") and any(part in name.lower() for part in ("ln_", "norm"))
    seed = zlib.crc32(name.encode())
    return [((seed + i * 40503) * 2654435761 % 4096 - 2048) / 8192 * (1.0 + i % 7 * 0.125) * 0.5 + norm for i in range(count)]
