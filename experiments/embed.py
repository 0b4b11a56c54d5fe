"""Writes the features of images; the same as `selfsup embed`, without installing selfsup."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from selfsup.commands.embed import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
