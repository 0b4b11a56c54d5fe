import pytest
from conftest import fake_result

from selfsup.reproduction.registry import EXPERIMENTS, SECTIONS
from selfsup.reproduction.tables import HEADER, make_cells, table_rows


def row(*arguments):
    (text,) = table_rows(make_cells(*arguments))
    return dict(zip(HEADER, text, strict=True))


def test_mean_and_deviation_over_seeds():
    results = [fake_result("byol", accuracy, seed=seed) for seed, accuracy in enumerate((84.0, 85.0, 86.0))]
    (cell,) = make_cells("byol", results)
    assert (cell.n, cell.mean, cell.std) == (3, 85.0, 1.0)
    assert cell.difference == pytest.approx(85.0 - 84.2)
    assert row("byol", results) == {
        "experiment": "byol",
        "published, %": "84.2",
        "ours, %": "85.00 ± 1.00 (n = 3)",
        "difference": "+0.80",
        "k-NN, %": "85.00 ± 1.00",
        "rank of F": "8.00 ± 0.00",
        "collapsed": "0 of 3",
    }


def test_one_run_has_no_deviation():
    found = row("byol", [fake_result("byol", 80.0)])
    assert found["ours, %"] == "80.00 (n = 1)"
    assert found["difference"] == "-4.20"
    assert (found["k-NN, %"], found["rank of F"]) == ("80.00", "8.00")


def test_a_missing_cell():
    assert list(row("byol").values()) == ["byol", "84.2", "no result", "-", "-", "-", "-"]


def test_failed_and_diverged_runs_are_named_beside_the_others():
    results = [fake_result("byol", 80.0), fake_result("byol", None, seed=1)]
    found = row("byol", results, ["out of memory"])
    assert found["ours, %"] == (
        "80.00 (n = 1); failed: out of memory; failed: the loss became infinite or not a number"
    )
    assert found["collapsed"] == "0 of 1"
    assert row("byol", [], ["out of memory"])["difference"] == "-"


def test_collapse_is_counted_where_the_runs_are_long_enough():
    results = [
        fake_result("simsiam_symmetric", 20.0, collapsed=c, seed=s) for s, c in enumerate((True, False))
    ]
    assert row("simsiam_symmetric", results)["collapsed"] == "1 of 2"
    short = fake_result("simsiam_symmetric", 20.0, preset="quick")
    assert row("simsiam_symmetric", [short])["collapsed"] == "too short to tell"
    ended = fake_result("simsiam_symmetric", 20.0, monitor={**short.monitor, "epoch": 3.0})
    assert row("simsiam_symmetric", [ended])["collapsed"] == "too short to tell"


def test_the_authors_raw_results_stand_beside_the_article_where_they_differ():
    shown = {name: row(name)["published, %"] for name in SECTIONS["weight_decay"].experiments}
    assert shown == {
        "byol_decay_predictor": "81.69",
        "byol_symmetric_decay_predictor": "80.42 (raw: 81.34)",
        "simsiam_decay_predictor": "81.39",
        "simsiam_symmetric_decay_predictor": "79.22",
        "byol_decay_none": "81.34 (raw: 80.42)",
        "byol_symmetric_decay_none": "80.78",
        "simsiam_decay_none": "79.1 (raw: 79.22)",
        "simsiam_symmetric_decay_none": "20.27",
    }
    (cell,) = make_cells("byol_decay_none", [fake_result("byol_decay_none", 80.0)])
    assert cell.difference == pytest.approx(80.0 - 81.34), "the difference is to the article"
    assert (cell.source, "simsiam_predictor_test" in cell.raw.source) == ("article Table 3", True)
    (cell,) = make_cells("byol_decay_none", dataset="stl10")
    assert cell.raw is None
    recorded = {name for name, experiment in EXPERIMENTS.items() if experiment.raw}
    assert recorded == set(SECTIONS["weight_decay"].experiments) - {"simsiam_symmetric_decay_predictor"}


def test_the_deeper_projector_has_a_second_cell():
    cells = make_cells("directpred_deep", [fake_result("directpred_deep", 82.0)])
    assert [(cell.name, cell.published.mean, cell.mean) for cell in cells] == [
        ("directpred_deep", 82.3, 82.0),
        ("directpred_deep_reused", 80.7, 80.0),
    ]
    plain, reused = make_cells("sgd_deep", [fake_result("sgd_deep", 82.0)])
    assert (plain.published.mean, reused.published.mean) == (82.3, 80.7), (
        "the published figures stand beside both"
    )
    assert reused.mean == 80.0
    assert (plain.knn, reused.knn) == ((82.0,), ()), "k-NN stands on the backbone"
    assert plain.ranks == reused.ranks == (8.0,)


def test_on_stl10_the_published_values_are_those_of_tian_et_al():
    (cell,) = make_cells("directpred", [fake_result("directpred", 78.0)], dataset="stl10")
    assert (cell.published.mean, cell.published.std, cell.published.n) == (77.86, 0.16, 5)
    assert table_rows([cell])[0][1] == "77.86 ± 0.16"
    assert cell.difference == pytest.approx(78.0 - 77.86)
    assert make_cells("directcopy", dataset="stl10")[0].published is None
