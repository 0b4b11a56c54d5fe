"""Damage to files by chance. RELIABILITY_SEED repeats what it drew."""

import os
import random
from pathlib import Path

SEED = int(os.environ.get("RELIABILITY_SEED", random.SystemRandom().randrange(10**6)))


def damage(path: Path, rng: random.Random) -> str:
    """Cuts, flips or empties a file; says how."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(["cut", "flip", "empty", "zeros", "garbage"])
    if kind == "cut":
        content = content[: rng.randrange(1, len(content))]
    elif kind == "flip":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "empty":
        content = b""
    elif kind == "zeros":
        start = rng.randrange(len(content))
        content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    else:
        content = rng.randbytes(rng.randrange(1, 5000))
    changed = bytes(content) != path.read_bytes()
    path.write_bytes(content)
    return kind if changed else ""
