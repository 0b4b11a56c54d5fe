"""The fixed rule by which a run counts as collapsed, and the exception of a run that stops then."""

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


class Collapsed(RuntimeError):
    """A run with `stop_on_collapse` has collapsed; the same call without it continues from the checkpoint.

    Attributes:
        epoch, rank, std: epochs of the run so far, and effective rank and embedding std of the last one.

    Example:
        >>> print(Collapsed(6, rank=1.337, std=0.71))
        collapsed after epoch 6: effective rank 1.34, embedding std 0.71
    """

    def __init__(self, epoch: int, rank: float, std: float) -> None:
        super().__init__(f"collapsed after epoch {epoch}: effective rank {rank:.2f}, embedding std {std:.2f}")
        self.epoch, self.rank, self.std = epoch, rank, std
