"""The fixed rule by which a run counts as collapsed."""

MIN_EPOCHS = 5
RANK = 2.0
STD = 0.1


def is_collapsed(epochs: int, rank: float, std: float) -> bool:
    """Whether a run has collapsed: after at least 5 epochs, rank below 2 or std below 0.1.

    The thresholds were fixed before any run.

    Args:
        epochs: completed epochs.
        rank: effective rank of F; see `monitor.effective_rank`.
        std: embedding std; see `monitor.embedding_std`.

    Example:
        >>> is_collapsed(100, rank=1.4, std=0.5), is_collapsed(100, rank=8.0, std=0.9)
        (True, False)
    """
    return epochs >= MIN_EPOCHS and (rank < RANK or std < STD)
