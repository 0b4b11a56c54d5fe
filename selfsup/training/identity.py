"""The identity of a component that a user gives: two that would train other networks have different ones."""

import dataclasses
import functools
import hashlib
import inspect
import json
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from selfsup.utils.checksum import checksum


def describe(component: Any) -> str:
    """Returns a description that stays the same in another process.

    - A function or a class: its module and name, and a hash of the numbers, texts and arrays that it takes
      from its surroundings or as defaults, if there are any. Its code does not count, except that of a
      lambda, whose name says nothing.
    - A `functools.partial`: also its arguments. A bound method or another object: also its attributes.
    - A Keras model, layer or optimizer: its type and a hash of its config and weights, whatever their names.

    Example:
        >>> def loss(scale):
        ...     return lambda p1, p2, t1, t2: scale * keras.ops.mean(p1 - t2)
        >>> describe(loss(1.0)) == describe(loss(1.0)), describe(loss(1.0)) == describe(loss(2.0))
        (True, False)
    """
    if isinstance(component, keras.layers.Layer):  # models, too
        config = json.loads(_json(keras.saving.serialize_keras_object(component)))
        config.pop("build_config", None)  # a layer that is not a model gets it only when it is called
        weights = dict(_numbered(component.get_weights()))
        return _named(type(component).__name__, {"config": _json(_nameless(config, {})), **weights})
    if isinstance(component, keras.optimizers.Optimizer):
        settings = json.loads(_json(component.get_config()), object_hook=_unnamed)
        return _named(type(component).__name__, {"config": _json(settings)})
    if isinstance(component, functools.partial):
        given = {**dict(_numbered(component.args)), **component.keywords}
        return _named(describe(component.func), given)
    if inspect.ismethod(component):
        return _named(f"{describe(component.__self__)}.{component.__name__}", {})
    if inspect.isfunction(component):
        return _named(_name(component), _surroundings(component))
    if hasattr(component, "__qualname__"):
        return _name(component)
    text, values = repr(component), getattr(component, "__dict__", {})
    whole = " at 0x" not in text and not any(isinstance(value, np.ndarray) for value in values.values())
    return text if whole else _named(_name(type(component)), values)


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
        values["code"] = _code(function.__code__)
    return values


def _code(code: types.CodeType) -> str:
    constants = [_code(one) if isinstance(one, types.CodeType) else repr(one) for one in code.co_consts]
    return f"{code.co_code.hex()} {constants} {code.co_names}"


def _text(value: Any) -> str | None:
    """Returns the text of a value; None for modules and for objects of other kinds than these."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic)):
        return repr(value)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"{value.dtype} {value.shape} {checksum([value])}"
    if isinstance(value, np.ndarray):
        return _text(value.tolist())
    if ops.is_tensor(value):
        return _text(ops.convert_to_numpy(value))
    if isinstance(value, Mapping):
        return str(sorted((str(key), str(_text(item))) for key, item in value.items()))
    if isinstance(value, (tuple, list)):
        return str([_text(item) for item in value])
    if inspect.isfunction(value):  # not what it uses: it may use the function that is described
        return _name(value) + (_code(value.__code__) if value.__name__ == "<lambda>" else "")
    if isinstance(value, (functools.partial, keras.layers.Layer, keras.optimizers.Optimizer)):
        return describe(value)
    if isinstance(value, type) or inspect.isbuiltin(value):
        return _name(value)
    return describe(value) if dataclasses.is_dataclass(value) else None


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _unnamed(config: dict[str, Any]) -> dict[str, Any]:
    """Drops the name of an optimizer, which Keras may number, but not that of a schedule."""
    return {key: item for key, item in config.items() if key != "name" or "learning_rate" not in config}


def _nameless(value: Any, names: dict[str, int]) -> Any:
    """Replaces the names of layers in a config, which Keras may number, by those in `names`, in order."""
    if isinstance(value, list):
        return [_nameless(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _nameless(item, names) for key, item in value.items()}
    if "class_name" in value and not value["class_name"].endswith("DTypePolicy"):
        found |= {"name": _numbers(value["name"], names)} if "name" in value else {}
        if isinstance(config := value.get("config"), dict) and "name" in config:
            found["config"] = {**found["config"], "name": _numbers(config["name"], names)}
    for key in {"keras_history", "input_layers", "output_layers"} & value.keys():
        found[key] = _numbers(value[key], names)
    return found


def _numbers(value: Any, names: dict[str, int]) -> Any:
    if isinstance(value, str):
        return names.setdefault(value, len(names))
    return [_numbers(item, names) for item in value] if isinstance(value, list) else value
