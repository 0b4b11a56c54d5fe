"""One run on several machines, with one JAX process on each.

Machine 1 keeps the records. The others work in a temporary folder and print nothing.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import keras
import numpy as np

from selfsup.backend.rendezvous import meet
from selfsup.utils.errors import InputError, first_line
from selfsup.utils.options import parse_share

TIMEOUT = 120
"""Seconds that a machine waits for the others at the start."""
_TEXT_BYTES = 1000
"""Size of the texts that machines exchange; longer texts are cut."""
_PIECE_BYTES = 2**28
"""Size of the pieces in which files are sent. JAX counts bytes in 32 bits."""

T = TypeVar("T")


@dataclass(frozen=True)
class Machines:
    """The machines of a run as seen from one of them. Call every method on all machines.

    Attributes:
        index: index of this machine, from 0.
        count: number of machines.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def connect(cls, machine: str | None = None, coordinator: str | None = None) -> "Machines":
        """Waits for the other machines and connects them. Call it before JAX computes anything.

        Args:
            machine: "I/N" for the I-th of N machines, I from 1; None or "1/1" for a single machine.
            coordinator: HOST:PORT of machine 1, as the others reach it.

        Raises:
            InputError: a value is invalid, the backend supports only one machine, or a machine is missing.
        """
        if machine is None and coordinator is not None:
            raise InputError("coordinator is for runs on several machines; give --machine=I/N, too")
        index, count = parse_share("machine", "1/1" if machine is None else machine)
        if keras.backend.backend() != "jax" and (count > 1 or _tensorflow_machines() > 1):
            raise InputError(
                "a run on several machines needs JAX (Keras' fit does not support it on TensorFlow): set "
                "KERAS_BACKEND=jax and give --machine and --coordinator, without TF_CONFIG"
            )
        if count == 1:
            return cls()
        meet(coordinator or "", index, count, TIMEOUT)
        import jax

        jax.distributed.initialize(coordinator, count, index)
        return cls(index, count)

    @contextmanager
    def own_folder(self, workdir: Path) -> Iterator[Path]:
        """Yields `workdir` on machine 1; on others a temporary folder, with stdout silenced."""
        if self.index == 0:
            yield workdir
            return
        with TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            yield Path(folder)

    def rows(self, batch: np.ndarray) -> np.ndarray:
        """Returns the rows of a batch [B, ...] that this machine feeds to its devices: [B / count, ...]."""
        size = len(batch) // self.count
        return batch[self.index * size : (self.index + 1) * size]

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """Returns the maximum over the machines of each number (int32)."""
        if self.count == 1:
            return numbers
        from jax.experimental.multihost_utils import process_allgather

        return tuple(process_allgather(np.array(numbers, np.int32)).max(axis=0).tolist())

    def together(self, action: Callable[[], T]) -> T:
        """Calls `action` on every machine and returns its result on this one.

        An exception ends all machines: here it is the one that `action` raised, on the others an `InputError`
        that says on which machine. `action` must not exchange data with other machines.

        Raises:
            InputError: `action` raised it, on this machine or on another, or it failed on another.
        """
        if self.count == 1:
            return action()
        failed: Exception | None = None
        try:
            outcome = action()
        except Exception as error:
            failed = error
        texts = self._texts("" if failed is None else _as_text(failed))
        if failed is not None:
            raise failed
        for index, text in enumerate(texts):
            if text:
                raise InputError(f"machine {index + 1}: {text}")
        return outcome

    def check_same(self, values: Mapping[str, Any]) -> None:
        """Checks that each named value is the same on all machines.

        Raises:
            InputError: a value differs; the message names it.
        """
        for name, value in values.items():
            texts = self._texts(str(value))
            for index, text in enumerate(texts):
                if text != texts[0]:
                    raise InputError(f"{name} of machine {index + 1} differs from machine 1's")

    def share(self, folder: Path, names: Sequence[str]) -> None:
        """Copies the named files from machine 1's `folder` to the others' folders. Skips missing files."""
        if self.count == 1:
            return
        here = [name for name in names if self.index == 0 and (folder / name).is_file()]
        contents = [(folder / name).read_bytes() for name in here]
        header = json.dumps([(name, len(content)) for name, content in zip(here, contents, strict=True)])
        files = json.loads(self._from_first(header.encode()))
        content = memoryview(self._from_first(b"".join(contents)))
        for name, size in files:
            if self.index:
                (folder / name).write_bytes(content[:size])
            content = content[size:]

    def _texts(self, text: str) -> list[str]:
        """Returns the text of each machine, cut to `_TEXT_BYTES`."""
        if self.count == 1:
            return [text]
        from jax.experimental.multihost_utils import process_allgather

        padded = np.frombuffer(
            text.encode(errors="replace")[:_TEXT_BYTES].ljust(_TEXT_BYTES, b"\0"), np.uint8
        )
        return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in process_allgather(padded)]

    def _from_first(self, content: bytes) -> bytes:
        """Returns machine 1's `content` on every machine."""
        from jax.experimental.multihost_utils import broadcast_one_to_all

        pieces, rest = broadcast_one_to_all(np.array(divmod(len(content), _PIECE_BYTES), np.int32)).tolist()
        received = []
        for index in range(pieces + 1):
            start, size = index * _PIECE_BYTES, _PIECE_BYTES if index < pieces else rest
            piece = content[start : start + size] if self.index == 0 else bytes(size)
            received.append(np.asarray(broadcast_one_to_all(np.frombuffer(piece, np.uint8))).tobytes())
        return b"".join(received)


def _as_text(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {first_line(error)}"


def _tensorflow_machines() -> int:
    """The number of workers in TF_CONFIG."""
    try:
        return len(json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {}).get("worker", []))
    except (ValueError, AttributeError):
        return 0
