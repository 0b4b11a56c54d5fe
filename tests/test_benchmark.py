import json
from pathlib import Path

import pytest

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import processes

TINY = ("--width=2", "--batch_size=8", "--precision=float32", "--rounds=1", "--steps=2")


def call(*arguments):
    return benchmark.main(["benchmark.py", *map(str, arguments)])


def test_variants_take_turns_and_are_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(processes, "MODULE", "shallow_worker")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    kinds = ["ours", "stock"]
    out = tmp_path / "speed.json"
    assert call(*TINY, "--compare=stock", f"--out={out}") == 0
    result = json.loads(out.read_text())
    assert list(result["seconds_per_step"]) == kinds
    # a second between the ends of two executions of two steps each
    assert all(seconds == [0.5] for seconds in result["seconds_per_step"].values())
    assert set(result["parts_seconds"]) >= {
        "augmentation", "forward and backward", "optimizer", "predictor rule", "target EMA",
        "target's forward",
    }  # fmt: skip
    assert result["config"]["width"] == 2
    assert all(memory > 100 for memory in result["memory_mib"].values())
    printed = capsys.readouterr().out
    for kind in kinds:
        assert f"\n{kind} " in printed
    assert "keras 3" in printed


def test_the_table_has_medians_and_ratios(capsys):
    benchmark.show(
        {
            "config": {"method": "sgd", "width": 16, "solver": None},
            "rounds": 3,
            "device": "a device",
            "versions": "keras 3",
            "seconds_per_step": {"ours": [0.1, 0.2, 0.3], "torch": [0.4, 0.5, 0.3]},
            "memory_mib": {"ours": 1000, "torch": 500},
            "parts_seconds": {"augmentation": 0.01},
            "probe_seconds": {"k-NN": 2.5},
        },
        128,
    )
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "method sgd, width 16"
    assert lines[3:] == [
        "ours 640.0 200.0 (100 to 300) 1000",
        "torch 320.0 400.0 (300 to 500) 2.00 x 500",
        "augmentation 10.00 ms 5.0% of our step",
        "probe: k-NN 2.50 s",
    ]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--compare=mxnet"], "mxnet"),
        (["--steps=0"], "at least 1"),
        (["--width=0"], "width"),
        (["--compare=newton_schulz", "--method=byol"], "solver does not apply"),
        (["--compare=torch"], "pip install torch"),
        (["--compare=torch", "--method=byol"], "times DirectPred"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(flags, named, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "find_spec", lambda _: "byol" in flags[-1] or None)
    assert call(*flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert named in error
    assert error.count("\n") == 1
