"""Settings with their help texts, types and accepted values. Flags, `--help` and checks derive from them."""

import json
import math
import numbers
import os
from dataclasses import dataclass
from typing import Any

from selfsup.utils.errors import InputError


@dataclass(frozen=True)
class Option:
    """Help text, type and accepted values of one setting.

    Attributes:
        help: what the setting means, with its unit.
        type: bool, int, float or str.
        shown: the default as text, for defaults that depend on other settings.
        choices: the accepted texts; empty for any.
        low, high: the accepted range, including its ends unless `open_low` or `open_high` is true. None for
            no limit; `high` requires `low`.
        group: heading in `--help`.

    Example:
        >>> rate = Option("learning rate", float, low=0, open_low=True)
        >>> rate.expected()
        'a number above 0'
        >>> rate.check("learning_rate", 1)
        1.0
    """

    help: str
    type: type = str
    shown: str = ""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False
    group: str = ""

    def expected(self) -> str:
        """Returns the accepted values as text, such as "a number in [0, 1)"."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[self.type]
        if self.low is None:
            return kind
        if self.high is None:
            return f"{kind} {'above' if self.open_low else 'of at least'} {self.low:g}"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"{kind} in {left}{self.low:g}, {self.high:.10g}{right}"

    def accepts(self, value: Any) -> bool:
        """Whether `value`, which must have this type, is among the choices and in the range."""
        if self.choices and value not in self.choices:
            return False
        if self.type is float and not math.isfinite(value):
            return False
        if self.low is not None and (value < self.low or (self.open_low and value == self.low)):
            return False
        return self.high is None or value < self.high or (value == self.high and not self.open_high)

    def check(self, name: str, value: Any) -> Any:
        """Returns `value` as this option's type. NumPy scalars and paths become plain Python values.

        Args:
            name: the setting's name, for the error message.
            value: the value to check. An int is accepted for a float, a bool is not accepted for an int.

        Raises:
            InputError: the value is not accepted.
        """
        plain = as_plain(value)
        if self.type is float and type(plain) is int:
            plain = float(plain)
        if type(plain) is not self.type or not self.accepts(plain):
            raise InputError(f"{name} must be {self.expected()}, not {value!r}")
        return plain


def as_plain(value: Any) -> Any:
    """Converts a NumPy scalar to bool, int or float, and a path to str. Returns anything else unchanged."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    scalar = isinstance(value, numbers.Number) or type(value).__name__ in ("bool", "bool_")
    return value.item() if scalar and hasattr(value, "item") else value


def check_json(name: str, value: Any) -> Any:
    """Returns a value that can be written to a record.

    Raises:
        InputError: JSON cannot hold it.
    """
    try:
        json.dumps(value)
    except TypeError as error:
        raise InputError(f"{name} must hold what JSON can hold ({error}); make arrays lists") from None
    return value


def parse_share(name: str, text: str) -> tuple[int, int]:
    """Parses "I/N", the I-th of N with I from 1.

    Args:
        name: the setting's name, for the error message.
        text: the text to parse.

    Returns:
        The index, from 0, and the count.

    Raises:
        InputError: `text` is not of this form.

    Example:
        >>> parse_share("shard", "2/4")
        (1, 4)
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise InputError(f"{name} must be I/N with I from 1 to N, such as 2/4, not {text!r}")
    return int(index) - 1, int(count)
