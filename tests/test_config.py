import json
import subprocess
import sys
from dataclasses import fields

import pytest

from selfsup.config import METHODS, Config
from selfsup.reproduction.registry import EXPERIMENTS, PRESETS, make_config
from selfsup.utils.errors import InputError
from selfsup.utils.options import OPTIONS


def test_the_default_is_the_reports_setting():
    config = Config()
    assert (config.method, config.ema, config.tau, config.eps, config.rho) == (
        "directpred",
        True,
        0.996,
        0.1,
        0.3,
    )
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.03, 0.9, 4e-4)
    assert (config.batch_size, config.epochs, config.width, config.dataset) == (128, 100, 64, "cifar10")
    assert (Config(method="directcopy").eps, Config(method="directcopy").rho) == (0.3, 0.5)


def test_every_field_has_an_option_in_the_same_order():
    explained = [name for name in OPTIONS if name != "experiment"]
    assert explained == [f.name for f in fields(Config) if f.name != "experiment"]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_configs_survive_json(experiment, preset):
    config = make_config(preset, experiment)
    assert Config(**json.loads(json.dumps(config.to_dict()))) == config


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
    ],
)
def test_bad_fields_are_refused_by_name(fields, named):
    with pytest.raises(InputError, match=named):
        Config(**fields)


def test_experiments_are_the_cells_of_the_tables():
    assert len(EXPERIMENTS) == 22
    tuned = make_config(experiment="simsiam_symmetric_tuned")
    assert (tuned.learning_rate, tuned.predictor_learning_rate) == (0.2, 2.0)
    assert (tuned.weight_decay, tuned.predictor_weight_decay) == (0.0, 4e-4)
    assert make_config(experiment="directpred_freq5").freq == 5
    assert make_config(experiment="directpred_noema").tau is None
    assert EXPERIMENTS["directpred"].published == 84.7
    assert EXPERIMENTS["directpred_deep"].published_reused == 80.7


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
