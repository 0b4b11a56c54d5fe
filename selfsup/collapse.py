"""The fixed rule that calls a run collapsed."""

MIN_EPOCHS = 5
RANK = 2.0
STD = 0.1


def is_collapsed(epochs: int, rank: float, std: float) -> bool:
    """The fixed rule: after at least 5 epochs, effective rank of F below 2 or embedding std below 0.1."""
    return epochs >= MIN_EPOCHS and (rank < RANK or std < STD)
