"""The state of a run as arrays: what a step changes."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from selfsup.model import SiameseModel
from selfsup.utils.checksum import checksum
from selfsup.utils.errors import InputError


class Stateful(Protocol):
    """An object whose state is part of the checkpoints of a run."""

    def state(self) -> dict[str, np.ndarray]: ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None: ...


def is_final(state: Mapping[str, np.ndarray], epoch: int) -> bool:
    """Whether an epoch was the last of the run that saved a state, whose records a longer run does not have.

    Older states do not contain the number of epochs; there, it is taken for the last.
    """
    return int(state.get("epochs", epoch)) == epoch


def variables(model: SiameseModel) -> dict[str, keras.Variable]:
    """Returns the variables that a step changes, by index and path: weights, F, step count, optimizer, seeds.

    They are all that the next steps depend on: augmentation and order follow from seed and step count. Seeds
    are those of layers such as Dropout in a user's backbone. The metrics and the online probe, which have no
    influence, are not among them.
    """
    layers = [layer for layer in (model.store, model.online_probe) if layer is not None]
    others = {id(v) for layer in layers for v in layer.weights}
    own = [v for v in model.weights if id(v) not in others]
    others |= {id(v) for v in (*own, *model.metrics_variables)}
    seeds = [v for v in model.variables if id(v) not in others]
    return {f"{index:03d} {v.path}": v for index, v in enumerate([*own, *model.optimizer.variables, *seeds])}


def digest(model: SiameseModel) -> str:
    """Returns the SHA-256, 64 hex digits, of the values of `variables`, whatever their names.

    The names contain numbers that Keras counts in each process, as in conv2d_1/kernel.
    """
    return checksum(to_numpy(variable) for variable in variables(model).values())


def to_numpy(value: Any) -> np.ndarray:
    """Returns a value as an array, of float32 if NumPy itself does not have the type: bfloat16."""
    array = ops.convert_to_numpy(value)
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def own_copy(name: str, value: Any) -> np.ndarray:
    """Returns a copy of an array in the state of a callback.

    Raises:
        InputError: a checkpoint cannot hold it.
    """
    with suppress(ValueError):  # rows of different lengths
        if not (copy := np.array(value)).dtype.hasobject:
            return copy
    raise InputError(f"{name}: state() must return arrays of numbers or text, not {value!r}")
