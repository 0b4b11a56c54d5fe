"""A status line that is rewritten in place, on terminals of any width and in notebooks."""

import shutil
import sys
from collections.abc import Sequence


class StatusLine:
    """Shows the state of a long job in one line.

    On a terminal or in a notebook, `show` rewrites the line in place. A log file gets only the lines passed
    to `finish`.

    Attributes:
        live: whether the line can be rewritten in place.
    """

    def __init__(self) -> None:
        stream = getattr(sys.stdout, "stream", sys.stdout)  # what `Tolerant` wraps
        notebook = type(stream).__module__.startswith("ipykernel")
        self.live = notebook or (sys.stdout is not None and sys.stdout.isatty())
        self._shown = 0

    def show(self, text: str) -> None:
        """Replaces the line if it is live. Text that does not fit is cut."""
        if self.live:
            self._write(text[: self.room])

    def finish(self, text: str) -> None:
        """Replaces the line and ends it with a newline."""
        if self.live:
            self._write(text)
            print(flush=True)
            self._shown = 0
        else:
            print(text, flush=True)

    @property
    def room(self) -> int:
        """The number of characters that fit in the line."""
        return shutil.get_terminal_size().columns - 1

    def _write(self, text: str) -> None:
        print(f"\r{text.ljust(self._shown)}", end="", flush=True)
        self._shown = len(text)


def fit_pieces(pieces: Sequence[tuple[int, str]], room: int) -> str:
    """Joins pieces of text, leaving out the least important ones until the rest fits.

    Args:
        pieces: pairs of importance (larger is more important) and text, in the order of the line. Empty
            texts are skipped.
        room: maximum number of characters. The most important piece is always kept.

    Example:
        >>> fit_pieces([(3, "epoch 1/3"), (1, "[====    ]"), (2, "loss -1.5")], room=20)
        'epoch 1/3  loss -1.5'
    """
    kept = [piece for piece in pieces if piece[1]]
    while len(kept) > 1 and len("  ".join(text for _, text in kept)) > room:
        kept.remove(min(kept))
    return "  ".join(text for _, text in kept)
