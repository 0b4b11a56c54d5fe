"""Every valid config survives JSON and the command line; every field that is not valid is refused by name."""

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from selfsup import cli
from selfsup.commands import run
from selfsup.config import METHODS, OPTIONS, Config
from selfsup.methods import LOSSES
from selfsup.utils.errors import InputError
from selfsup.utils.options import Option

FIELDS = {name: OPTIONS[name] for name in cli.FIELDS}
RULE_FIELDS = ("eps", "spectrum", "solver", "norm")


def parse(*flags: str) -> dict:
    """The fields of `Config` as run.py reads them from its flags."""
    return cli.CommandLine(run.ABOUT, run.OWN).parse(["run.py", *flags])[1]


def valid(name: str, option: Option) -> st.SearchStrategy:
    """Values that a field accepts by itself."""
    if name == "method":
        return st.sampled_from(sorted(METHODS))
    if option.choices:
        return st.sampled_from(option.choices)
    if option.type is bool:
        return st.booleans()
    if option.type is int:
        return st.integers(int(option.low), int(option.high) if option.high is not None else 2**40)
    if option.type is float:
        return st.floats(
            option.low,
            option.high,
            exclude_min=option.open_low,
            exclude_max=option.open_high,
            allow_nan=False,
            allow_infinity=False,
        )
    return st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Any valid config: fields that do not apply to the method are left out."""
    chosen = draw(st.fixed_dictionaries({}, optional={n: valid(n, o) for n, o in FIELDS.items()}))
    method = METHODS[chosen.get("method", Config.method)]
    for name in RULE_FIELDS:
        if name not in method.rule_options:
            chosen.pop(name, None)
    if not method.rule:
        chosen.pop("freq", None)
    else:
        chosen.pop("symmetric", None)
    if method.rule and chosen.get("freq", 1) == 1:
        chosen.pop("predictor_learning_rate", None)
        chosen.pop("predictor_weight_decay", None)
    elif LOSSES[chosen.get("loss", Config.loss)].needs_rule:
        chosen.pop("loss")
    if chosen.get("method") == "simsiam":
        chosen.pop("ema", None)
    if not chosen.get("ema", method.ema):
        chosen.pop("tau", None)
        chosen.pop("tau_schedule", None)
    if "warmup_epochs" in chosen:
        chosen["warmup_epochs"] %= chosen.get("epochs", Config.epochs)
    return Config(**chosen)


@given(configs())
@settings(max_examples=200, deadline=None)
def test_a_config_survives_json_and_flags(config):
    stored = json.loads(json.dumps(config.to_dict()))
    assert Config(**stored) == config
    assert Config(**stored).fingerprint == config.fingerprint
    flags = [
        f"--{name}={value}" if value is not False or FIELDS[name].type is not bool else f"--no{name}"
        for name, value in stored.items()
        if value is not None and name in FIELDS
    ]
    assert Config(**parse(*flags)) == config


@given(st.sampled_from(sorted(OPTIONS)), st.data())
@settings(max_examples=300, deadline=None)
def test_a_value_that_is_not_accepted_is_refused_by_name(name, data):
    anything = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.binary()
    )
    value, option = data.draw(anything), OPTIONS[name]
    if value is None:
        assume(getattr(Config, name) is not None)
    number = float(value) if option.type is float and type(value) is int else value
    if type(number) is option.type and option.accepts(number):
        assume(name == "method" and value not in METHODS)
    with pytest.raises(InputError, match=rf"^{name} must be") as error:
        Config(**{name: value})
    assert "\n" not in str(error.value)


@given(st.sampled_from(sorted(FIELDS)), st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
@settings(max_examples=300, deadline=None)
def test_a_flag_that_is_not_accepted_is_refused_by_name(name, text):
    assume(FIELDS[name].type is not str or FIELDS[name].choices)
    refused = ""
    try:
        Config(**parse(f"--{name}={text}"))
    except InputError as error:
        refused = str(error)
    assert not refused or name in refused
    assert "\n" not in refused
