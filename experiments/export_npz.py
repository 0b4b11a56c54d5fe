"""Writes a dataset as an .npz file; the same as `selfsup export_npz`, without installing selfsup."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from selfsup.commands.export_npz import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
