"""What a collapsed run is told: each change exactly where it applies, as flags that can be typed."""

import dataclasses
import itertools

import pytest

from selfsup import cli
from selfsup.commands import run
from selfsup.config import METHODS, Config
from selfsup.reproduction.registry import EXPERIMENTS
from selfsup.training.advice import Remedy, advice, remedies
from selfsup.utils.errors import InputError


def flags(**settings):
    return [remedy.flags for remedy in remedies(Config(**settings))]


def all_configs():
    """Configs of all methods with all that the advice looks at, and all experiments."""
    values = {
        "ema": (None, False, True), "symmetric": (False, True), "freq": (None, 5),
        "loss": ("cosine", "isoloss"), "predictor_learning_rate": (None, 0.003, 0.5),
        "learning_rate": (0.03, 0.3), "weight_decay": (4e-4, 4e-3), "predictor_weight_decay": (None, 0.0),
    }  # fmt: skip
    for method, combination in itertools.product(METHODS, itertools.product(*values.values())):
        try:
            yield Config(method=method, **dict(zip(values, combination, strict=True)))
        except InputError:
            continue
    yield from (Config(**experiment.settings, experiment=name) for name, experiment in EXPERIMENTS.items())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"method": "simsiam", "symmetric": True},
            [
                "--method=byol --ema",
                "--nosymmetric",
                "--predictor_learning_rate=0.3",
            ],
        ),
        (
            {"method": "byol", "ema": False},
            ["--ema", "--predictor_learning_rate=0.3"],
        ),
        ({"method": "directcopy", "ema": False}, ["--ema"]),
        ({"method": "directpred", "ema": False, "loss": "isoloss"}, ["--ema"]),
        (
            {"method": "byol", "weight_decay": 0.02},
            ["--weight_decay=0.0004", "--predictor_learning_rate=0.3"],
        ),
        (
            {"method": "sgd", "predictor_learning_rate": 1e-3},
            ["--predictor_learning_rate=0.03"],
        ),
        (
            {"method": "byol", "predictor_weight_decay": 0.0},
            ["--predictor_weight_decay=0.0004", "--predictor_learning_rate=0.3"],
        ),
        ({"method": "directset"}, []),
        ({"method": "directset", "learning_rate": 2.0}, ["--learning_rate=0.03"]),
    ],
)
def test_the_advice_for_known_collapses(settings, expected):
    assert flags(**settings) == expected


def test_each_change_is_named_exactly_where_it_applies():
    tried = 0
    for config in all_configs():
        resolved, found = config.resolved, {}
        for remedy in remedies(config):
            assert not found.keys() & remedy.changes.keys()
            found |= remedy.changes
        without_ema, trained = not resolved.ema, resolved.trains_predictor
        applies = {
            "ema": without_ema,
            "method": config.method == "simsiam",
            "symmetric": config.symmetric,
            "weight_decay": config.weight_decay >= 4e-3,
            "predictor_learning_rate": trained,
            "predictor_weight_decay": trained and resolved.predictor_weight_decay == 0,
            "learning_rate": config.learning_rate >= 0.3,
        }
        assert found.keys() == {name for name, here in applies.items() if here}
        tried += 1
    assert tried > 200


def test_each_change_gives_another_valid_config_by_itself():
    for config in all_configs():
        for remedy in remedies(config):
            changed = dataclasses.replace(config, experiment=None, **remedy.changes)
            assert changed.fingerprint != config.fingerprint
            assert {name: getattr(changed, name) for name in remedy.changes} == dict(remedy.changes)
            if "ema" in remedy.changes:
                assert changed.resolved.ema
                assert changed.symmetric == config.symmetric


def test_the_flags_are_those_of_the_command_line():
    found = {remedy.flags: remedy.changes for config in all_configs() for remedy in remedies(config)}
    assert len(found) > 5
    for typed, changes in found.items():
        _, overrides = cli.CommandLine(run.ABOUT, run.OWN).parse(["run.py", *typed.split()])
        assert overrides == changes


def test_the_predictors_rate_is_ten_times_that_of_the_config():
    changes = {}
    for remedy in remedies(Config(method="byol", learning_rate=0.03, predictor_learning_rate=0.07)):
        changes |= remedy.changes
    assert changes == {"predictor_learning_rate": 0.7}


def test_without_a_change_another_method_is_named():
    lines = advice(Config(method="directcopy"), {"effective_rank": 1.0, "embedding_std": 0.5})
    assert len(lines) == 2
    assert "another --method" in lines[-1]


@pytest.mark.parametrize(
    ("rank", "std", "expected"),
    [
        (1.99, 0.8, ["few directions"]),
        (8.0, 0.09, ["nearly constant"]),
        (1.0, 0.0, ["nearly constant", "few directions"]),
        (None, 0.0, ["nearly constant"]),
    ],
)
def test_what_is_wrong_is_said(rank, std, expected):
    lines = advice(Config(), {"epoch": 6, "effective_rank": rank, "embedding_std": std})
    found = [line for line in lines if "the projections" in line]
    assert len(found) == len(expected)
    assert all(words in line for words, line in zip(expected, found, strict=True))


def test_the_advice_is_a_few_short_lines():
    for config in all_configs():
        lines = advice(config, {"effective_rank": 1.0, "embedding_std": 0.0})
        assert len(lines) <= 9
        assert all(len(line) <= 90 for line in lines)


def test_a_change_as_flags():
    assert Remedy({"method": "byol", "ema": True, "symmetric": False}, "").flags == (
        "--method=byol --ema --nosymmetric"
    )
    assert Remedy({"predictor_learning_rate": 1e-05, "epochs": 3}, "").flags == (
        "--predictor_learning_rate=1e-05 --epochs=3"
    )
