"""The identity of a component that a user gives: two that would train other networks have different ones."""

import functools
import hashlib
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np


def describe(component: Any) -> str:
    """Returns a description that stays the same in another process.

    - A function or a class: its module and name, and a hash of the numbers, texts and arrays that it takes
      from its surroundings or as defaults, if there are any. Its code does not count, except that of a
      lambda, whose name says nothing.
    - A `functools.partial`: also its arguments. A bound method or another object: also its attributes.
    - A Keras model or optimizer: its type and a hash of its config and weights, whatever their names.

    Example:
        >>> def loss(scale):
        ...     return lambda p1, p2, t1, t2: scale * keras.ops.mean(p1 - t2)
        >>> describe(loss(1.0)) == describe(loss(1.0)), describe(loss(1.0)) == describe(loss(2.0))
        (True, False)
    """
    if isinstance(component, keras.Model):
        weights = dict(_numbered(component.get_weights()))
        return _named(type(component).__name__, {"config": _nameless(component.to_json()), **weights})
    if isinstance(component, keras.optimizers.Optimizer):
        settings = json.dumps(component.get_config(), sort_keys=True, default=str)
        return _named(type(component).__name__, {"config": _nameless(settings)})
    if isinstance(component, functools.partial):
        given = {**dict(_numbered(component.args)), **component.keywords}
        return _named(describe(component.func), given)
    if inspect.ismethod(component):
        return _named(f"{describe(component.__self__)}.{component.__name__}", {})
    if inspect.isfunction(component):
        return _named(_name(component), _surroundings(component))
    if hasattr(component, "__qualname__"):
        return _name(component)
    text = repr(component)
    return (
        text if " at 0x" not in text else _named(_name(type(component)), getattr(component, "__dict__", {}))
    )


def _name(component: Any) -> str:
    return f"{component.__module__}.{component.__qualname__}"


def _named(name: str, values: Mapping[str, Any]) -> str:
    """Returns a name, followed by eight hex digits that stand for the values, if there are any."""
    known = {key: text for key, value in values.items() if (text := _text(value)) is not None}
    digits = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:8]
    return f"{name} {digits}" if known else name


def _numbered(values: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    return ((str(index), value) for index, value in enumerate(values))


def _surroundings(function: Any) -> dict[str, Any]:
    """Returns the values that a function uses besides its arguments, by name."""
    found = inspect.getclosurevars(function)
    values = {**found.globals, **found.nonlocals, **(function.__kwdefaults__ or {})}
    values |= dict(_numbered(function.__defaults__ or ()))
    if function.__name__ == "<lambda>":
        code = function.__code__
        values |= {"code": code.co_code.hex(), "constants": code.co_consts, "names": code.co_names}
    return values


def _text(value: Any) -> str | None:
    """Returns the text of a value; None for functions, modules, layers and others."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic)):
        return repr(value)
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        return str(sorted((str(key), _text(item)) for key, item in value.items()))
    if isinstance(value, (tuple, list)):
        return str([_text(item) for item in value])
    if isinstance(value, (functools.partial, keras.Model, keras.optimizers.Optimizer)):
        return describe(value)
    return None


def _nameless(config: str) -> str:
    """Replaces the names in the JSON of a Keras object, which Keras numbers in each process, by numbers."""
    names = dict.fromkeys(re.findall(r'"name": ("[^"]*")', config))
    for index, name in enumerate(names):
        config = config.replace(name, f'"#{index}"')
    return config
