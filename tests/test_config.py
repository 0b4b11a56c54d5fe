import itertools
import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from selfsup import cli
from selfsup.config import METHODS, OPTIONS, Config, Method
from selfsup.reproduction.registry import EXPERIMENTS, PRESETS, make_config
from selfsup.utils.errors import InputError


def test_the_default_is_the_reports_setting():
    config, resolved = Config(), Config().resolved
    assert (resolved.method, resolved.ema, resolved.tau, resolved.rho) == ("directpred", True, 0.996, 0.3)
    assert resolved.rule_options == {"eps": 0.1, "spectrum": "normalized", "solver": "eigh"}
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.03, 0.9, 4e-4)
    assert (config.batch_size, config.epochs, config.width, config.dataset) == (128, 100, 64, "cifar10")
    copy = Config(method="directcopy").resolved
    assert (copy.rule_options["eps"], copy.rho) == (0.3, 0.5)


def test_every_field_is_explained():
    assert set(OPTIONS) == {f.name for f in fields(Config)} - {"rule_options"}
    assert all(option.help for option in OPTIONS.values())


def test_given_and_resolved_values_are_two_things():
    assert Config().eps is None
    byol = replace(Config(), method="byol")
    assert (byol.resolved.method, byol.resolved.rule_options) == ("byol", {})
    assert replace(Config(tau=0.9), epochs=3).resolved.tau == 0.9
    plain = replace(Config(method="byol"), ema=False)
    assert (plain.resolved.method, plain.resolved.tau, plain.to_dict()["tau"]) == ("simsiam", 0.0, None)
    assert replace(Config(), ema=False).resolved.ema is False
    with pytest.raises(InputError, match="tau"):
        replace(Config(tau=0.9), ema=False)


def test_numpy_numbers_and_paths_are_values():
    config = Config(width=np.int64(8), eps=np.float32(0.5), ema=np.bool_(False), dataset=Path("x.npz"))
    assert config == Config(width=8, eps=0.5, ema=False, dataset="x.npz")
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()


def test_a_rule_with_options_that_only_it_has(monkeypatch):
    method = Method("a power of F", rule=lambda f, alpha: f, rule_options={"alpha": 0.5})
    monkeypatch.setitem(METHODS, "power", method)
    assert Config(method="power").resolved.rule_options == {"alpha": 0.5}
    config = Config(method="power", rule_options={"alpha": 0.7})
    assert config.resolved.rule_options == {"alpha": 0.7}
    assert Config(**json.loads(json.dumps(config.to_dict()))) == config
    assert config.fingerprint != Config(method="power").fingerprint
    parsed = cli.CommandLine("", {}).parse(["run", "--method=power", "--alpha=0.7"])[1]
    assert Config(**parsed) == config
    for bad in ({"alpha": "much"}, {"beta": 1.0}):
        with pytest.raises(InputError, match=next(iter(bad))):
            Config(method="power", rule_options=bad)
    with pytest.raises(InputError, match="alpha does not apply"):
        Config(rule_options={"alpha": 0.7})


def test_configs_survive_json():
    for preset, experiment in itertools.product(PRESETS, EXPERIMENTS):
        config = make_config(preset, experiment)
        assert Config(**json.loads(json.dumps(config.to_dict()))) == config, (preset, experiment)


def test_byol_without_ema_is_simsiam():
    assert Config(method="byol", ema=False) == Config(method="simsiam")


def test_fingerprint_separates_settings_but_not_seeds():
    assert Config(seed=1).fingerprint == Config(seed=2).fingerprint
    assert Config(ema=True).fingerprint == Config().fingerprint
    assert Config(eps=0.2).fingerprint != Config().fingerprint
    assert make_config(experiment="byol").default_workdir.parts[1].startswith("byol-")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"method": "magic"}, "method"),
        ({"method": "simsiam", "ema": True}, "byol"),
        ({"symmetric": True}, "symmetric"),
        ({"method": "directcopy", "symmetric": True}, "symmetric"),
        ({"freq": 0}, "freq"),
        ({"eps": -0.1}, "eps"),
        ({"eps": float("nan")}, "eps"),
        ({"rho": 1.0}, "rho"),
        ({"tau": 1.5}, "tau"),
        ({"ema": False, "tau": 0.9}, "tau"),
        ({"method": "byol", "eps": 0.1}, "eps"),
        ({"method": "sgd", "freq": 2}, "freq"),
        ({"norm": "fro"}, "norm"),
        ({"predictor_learning_rate": 1.0}, "predictor_learning_rate"),
        ({"projector_layers": 4}, "projector_layers"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"batch_size": 1}, "batch_size"),
        ({"epochs": None}, "epochs"),
        ({"seed": 1.5}, "seed"),
        ({"width": True}, "width"),
        ({"precision": "float16"}, "precision"),
        ({"loss": "manhattan"}, "loss"),
        ({"method": "byol", "loss": "isoloss"}, "loss isoloss needs"),
        ({"freq": 2, "loss": "isoloss"}, "loss isoloss needs"),
        ({"method": "directset", "rule_options": {"alpha": 0.0}}, "alpha must be a number above 0"),
    ],
)
def test_bad_fields_are_refused_by_name(fields, named):
    with pytest.raises(InputError, match=named):
        Config(**fields)


def test_the_loss_and_alpha_are_settings():
    assert Config(loss="cosine").fingerprint == Config().fingerprint != Config(loss="isoloss").fingerprint
    parsed = cli.CommandLine("", {}).parse(["run", "--method=directset", "--alpha=1", "--loss=isoloss"])[1]
    assert Config(**parsed) == Config(method="directset", rule_options={"alpha": 1.0}, loss="isoloss")
    assert make_config(experiment="sgd").loss == "cosine"
    with pytest.raises(InputError, match="loss is fixed"):
        make_config(experiment="directpred", loss="euclidean")


def test_experiments_are_the_cells_of_the_tables():
    assert len(EXPERIMENTS) == 36
    tuned = make_config(experiment="simsiam_symmetric_tuned")
    assert (tuned.learning_rate, tuned.predictor_learning_rate) == (0.2, 2.0)
    assert (tuned.weight_decay, tuned.predictor_weight_decay) == (0.0, 4e-4)
    assert make_config(experiment="directpred_freq5").resolved.freq == 5
    assert make_config(experiment="directpred_noema").resolved.tau == 0
    assert EXPERIMENTS["directpred"].published == 84.7
    assert EXPERIMENTS["directpred_deep"].published_reused == 80.7
    assert EXPERIMENTS["byol"].stl10.mean == 78.85
    assert make_config(experiment="directpred_rho0.5_eps0.01").resolved.rule_options["eps"] == 0.01
    halvagal = make_config(experiment="isoloss_copy_noema")
    assert halvagal.resolved.rule_options == {"alpha": 1.0, "eps": 0.25}
    assert (halvagal.loss, halvagal.resolved.rho, halvagal.learning_rate) == ("isoloss", 0.5, 0.1)


def test_presets():
    stl10 = make_config("stl10", "directpred").resolved
    assert (stl10.stem, stl10.augmentation["blur"], stl10.augmentation["hue"]) == ("large", 1.0, 0.2)
    long = make_config("long", "sgd")
    assert (long.image_size, long.width, long.epochs, long.resolved.stem) == (16, 16, 100, "small")
    small = make_config("paper", "byol").resolved
    assert (small.stem, small.augmentation["blur"]) == ("small", 0.0)


def test_experiment_and_preset_combine():
    config = make_config("lite", "byol", epochs=3)
    assert (config.width, config.epochs, config.experiment) == (16, 3, "byol")
    for overrides in ({"ema": False}, {"method": "sgd"}, {"symmetric": True}, {"projector_layers": 3}):
        with pytest.raises(InputError, match="fixed"):
            make_config("paper", "byol", **overrides)
    with pytest.raises(InputError, match="registry"):
        make_config("paper", "byoll")


def test_a_preset_leaves_out_what_does_not_apply():
    assert make_config("quick").tau == 0.98
    assert make_config("quick", method="simsiam").tau is None
    assert make_config("quick", tau=0.9, width=8).tau == 0.9
    assert make_config("quick", "simsiam_symmetric_tuned").learning_rate == 0.2


def test_methods_with_rules_name_functions_that_exist():
    from selfsup import predictors

    assert all(callable(getattr(predictors, m.rule)) for m in METHODS.values() if m.rule)


def test_config_needs_only_the_standard_library():
    code = "import selfsup, sys; selfsup.Config, selfsup.EXPERIMENTS; print('numpy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_an_option_of_a_rule_may_have_the_name_of_another_setting(monkeypatch):
    method = Method("own", rule=lambda f, momentum, name: f, rule_options={"momentum": 0.1, "name": None})
    monkeypatch.setitem(METHODS, "own", method)
    assert Config(method="own").resolved.rule_options == {"momentum": 0.1, "name": None}
    given = Config(method="own", rule_options={"momentum": 0.5})
    assert (given.resolved.rule_options["momentum"], given.momentum) == (0.5, 0.9)
    assert cli.CommandLine("", {}).parse(["command", "--method=own"])[1] == {"method": "own"}
    assert Config(method="own", rule_options={"name": (1, 2)}).resolved.rule_options["name"] == (1, 2)


def test_a_rule_option_that_is_a_field_is_not_given_twice():
    with pytest.raises(InputError, match="eps is a field of Config; pass it as eps="):
        Config(method="directset", rule_options={"eps": -5.0})


def test_a_rule_needs_a_linear_predictor():
    with pytest.raises(InputError, match="predictor_layers=1"):
        Method("own", predictor_layers=2, rule=lambda f: f)
