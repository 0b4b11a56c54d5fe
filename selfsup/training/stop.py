"""Stops a run that has collapsed, if the user asks for it."""

from typing import Any

import keras

from selfsup.collapse import Collapsed
from selfsup.training.callbacks import EpochLog
from selfsup.training.resume import Checkpointer


class StopOnCollapse(keras.callbacks.Callback):
    """Raises `Collapsed` at the end of the first epoch after which the run has collapsed.

    All machines of the run stop together.

    Args:
        log: the log whose last row is judged.
        checkpointer: saves that epoch. It must come before this callback in the list.
    """

    def __init__(self, log: EpochLog, checkpointer: Checkpointer) -> None:
        super().__init__()
        self.log, self.checkpointer = log, checkpointer

    def check(self) -> None:
        """Raises `Collapsed` if the run has collapsed by the last row of the log."""
        (collapsed,) = self.checkpointer.machines.largest(int(self.log.collapsed))
        if collapsed:
            row = self.log.row
            raise Collapsed(int(row["epoch"]), row["effective_rank"], row["embedding_std"])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self.checkpointer.diverged:
            self.check()
