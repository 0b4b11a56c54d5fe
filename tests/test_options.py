from pathlib import Path

import numpy as np
import pytest

from selfsup.utils.errors import InputError
from selfsup.utils.options import Option, as_plain, parse_share

RATE = Option("rate", float, low=0, high=1, open_high=True)
COUNT = Option("count", int, low=1)
SWITCH = Option("switch", bool)
NAME = Option("name", str)
NORM = Option("norm", choices=("fro", "spectral"))


@pytest.mark.parametrize(
    ("option", "value", "plain"),
    [
        (RATE, 0.5, 0.5),
        (RATE, 0, 0.0),
        (RATE, np.float32(0.25), 0.25),
        (RATE, np.float64(0.1), 0.1),
        (RATE, np.int64(0), 0.0),
        (COUNT, 3, 3),
        (COUNT, np.int32(3), 3),
        (COUNT, np.uint8(200), 200),
        (SWITCH, True, True),
        (SWITCH, np.bool_(False), False),
        (NAME, "a", "a"),
        (NAME, Path("a") / "b", str(Path("a") / "b")),
        (NORM, "fro", "fro"),
    ],
)
def test_accepted_values_become_plain_python(option, value, plain):
    checked = option.check("field", value)
    assert checked == plain
    assert type(checked) is type(plain)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        (RATE, 1.0, r"a number in \[0, 1\), not 1.0"),
        (RATE, -0.1, r"a number in \[0, 1\)"),
        (RATE, float("nan"), r"a number in \[0, 1\), not nan"),
        (RATE, True, "a number"),
        (RATE, "0.5", "a number"),
        (RATE, np.array([0.5]), "a number"),
        (COUNT, 0, "a whole number of at least 1, not 0"),
        (COUNT, 2.0, "a whole number"),
        (COUNT, np.float32(2), "a whole number"),
        (COUNT, True, "a whole number"),
        (SWITCH, 1, "true or false, not 1"),
        (NAME, None, "text, not None"),
        (NORM, "nuclear", "one of fro, spectral, not 'nuclear'"),
    ],
)
def test_other_values_are_refused_by_name(option, value, expected):
    with pytest.raises(InputError, match=f"^field must be {expected}"):
        option.check("field", value)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (Option("", int, low=0, high=2**31 - 1), "a whole number in [0, 2147483647]"),
        (Option("", float, low=0, open_low=True), "a number above 0"),
        (Option("", float, low=0, high=1, open_low=True), "a number in (0, 1]"),
        (Option("", float), "a number"),
    ],
)
def test_ranges_as_text(option, text):
    assert option.expected() == text


def test_an_open_lower_end_is_refused():
    with pytest.raises(InputError, match="above 0, not 0"):
        Option("", float, low=0, open_low=True).check("field", 0)


def test_other_objects_are_left_unchanged():
    value = object()
    assert as_plain(value) is value


@pytest.mark.parametrize(("text", "share"), [("1/1", (0, 1)), ("2/4", (1, 4)), ("4/4", (3, 4))])
def test_shares(text, share):
    assert parse_share("shard", text) == share


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1.0/2"])
def test_invalid_shares(text):
    with pytest.raises(InputError, match="shard must be I/N with I from 1 to N, such as 2/4, not"):
        parse_share("shard", text)
