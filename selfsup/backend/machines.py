"""Several machines that make one run, a process on each: JAX's processes, and how they act as one.

The first machine keeps the records; the others work in a folder that goes when they end, and say nothing.
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
from selfsup.utils.errors import InputError
from selfsup.utils.options import parse_part

TIMEOUT = 120
"""Seconds for which a machine waits for the others at the start."""
_TEXT = 1000
"""Bytes of the texts that machines tell each other."""

T = TypeVar("T")


@dataclass(frozen=True)
class Machines:
    """The machines of a run as seen from one of them; every method must be called on all of them.

    Attributes:
        index: which one this is, from 0.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def connect(cls, machine: str | None = None, coordinator: str | None = None) -> "Machines":
        """Waits for the others; before anything is computed on JAX.

        Args:
            machine: "I/N", the I-th of N machines, I from 1; None or "1/1" for a single one.
            coordinator: HOST:PORT of the first machine, as the others reach it.

        Raises:
            InputError: a bad value, a backend that cannot, or the others did not come.
        """
        index, count = parse_part("machine", machine or "1/1")
        if keras.backend.backend() != "jax" and (count > 1 or _tensorflow_machines() > 1):
            raise InputError(
                "several machines need JAX (Keras' fit fails on several machines of TensorFlow): set "
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
        """`workdir` on the first machine; on others a folder that goes, and no word on stdout."""
        if self.index == 0:
            yield workdir
            return
        with TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            yield Path(folder)

    def rows(self, batch: np.ndarray) -> np.ndarray:
        """The part of a batch [B, ...] that this machine feeds to its devices."""
        size = len(batch) // self.count
        return batch[self.index * size : (self.index + 1) * size]

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """Of each number the largest that a machine gives."""
        if self.count == 1:
            return numbers
        from jax.experimental.multihost_utils import process_allgather

        return tuple(process_allgather(np.array(numbers, np.int32)).max(axis=0).tolist())

    def together(self, action: Callable[[], T]) -> T:
        """What `action` returns here, if no machine refuses.

        Raises:
            InputError: it was raised by the action, on this machine or on another.
        """
        if self.count == 1:
            return action()
        problem, value = "", None
        try:
            value = action()
        except InputError as error:
            problem = str(error)
        for index, text in enumerate(self._texts(problem)):
            if text:
                raise InputError(text if index == self.index else f"machine {index + 1}: {text}")
        return value

    def check_same(self, values: Mapping[str, Any]) -> None:
        """Raises `InputError` if a value is not the same on all machines, by its name."""
        for name, value in values.items():
            texts = self._texts(str(value))
            for index, text in enumerate(texts):
                if text != texts[0]:
                    raise InputError(f"machine {index + 1} has another {name} than machine 1")

    def share(self, folder: Path, names: Sequence[str]) -> None:
        """Copies files of the first machine's `folder`, as far as they are there, to the others' folders."""
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
        """What each machine says, cut after so many bytes."""
        if self.count == 1:
            return [text]
        from jax.experimental.multihost_utils import process_allgather

        padded = np.frombuffer(text.encode()[:_TEXT].ljust(_TEXT, b"\0"), np.uint8)
        return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in process_allgather(padded)]

    def _from_first(self, content: bytes) -> bytes:
        from jax.experimental.multihost_utils import broadcast_one_to_all

        size = int(broadcast_one_to_all(np.int32(len(content))))
        own = np.frombuffer(content, np.uint8) if self.index == 0 else np.zeros(size, np.uint8)
        return np.asarray(broadcast_one_to_all(own)).tobytes()


def _tensorflow_machines() -> int:
    """How many workers TF_CONFIG names."""
    try:
        return len(json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {}).get("worker", []))
    except (ValueError, AttributeError):
        return 0
