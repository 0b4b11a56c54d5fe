"""The page of `selfsup compare`."""

import json
import re

import numpy as np
import pytest
from conftest import fake_result, write_fake_run

from selfsup.analysis.comparison import differing, read_runs, short_names
from selfsup.commands.compare import main
from selfsup.records.recordings import Eigenspaces, read_eigenspaces, read_log


@pytest.fixture
def runs(tmp_path):
    folders = [tmp_path / name / "0" for name in ("byol", "directpred")]
    for seed, folder in enumerate(folders):
        write_fake_run(folder, fake_result(folder.parent.name, 70.0 + seed, "quick", seed))
    return folders


def call(*arguments):
    return main(["compare", *map(str, arguments)])


def test_the_page_holds_the_records_of_the_runs(runs, tmp_path, capsys, screenshot):
    out = tmp_path / "page.html"
    assert call(*runs, f"--out={out}") == 0
    assert f"{out}: 2 runs" in capsys.readouterr().out
    page = out.read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    data = json.loads(re.search('id="data">(.*)</script>', page)[1])
    assert [run["name"] for run in data["runs"]] == ["byol", "directpred"]
    assert data["outcomes"]["linear, %"] == ["70.00", "71.00"]
    assert data["differing"]["method"] == ["byol", "directpred"]
    assert "width" not in data["differing"]
    for run, folder in zip(data["runs"], runs, strict=True):
        np.testing.assert_allclose(run["log"]["loss"], read_log(folder)["loss"], rtol=1e-4)
        recorded = read_eigenspaces(folder)
        assert run["epochs"] == recorded.epoch.tolist()
        assert run["F"][0] == [None] * 16  # untrained
        expected = np.sort(recorded.correlation_eigenvalues[-1])[::-1]
        np.testing.assert_allclose(run["F"][-1], expected, rtol=1e-4)
        expected = np.sort(recorded.predictor_eigenvalues[-1])[::-1]
        np.testing.assert_allclose(run["W"][-1], expected, rtol=1e-4)
    for width in (1200, 420):
        screenshot(out, (width, 1600))


def test_the_value_of_a_flag_is_no_run(runs, tmp_path):
    assert call(*runs, "--out", tmp_path / "page.html") == 0
    assert (tmp_path / "page.html").exists()


def test_many_recordings_do_not_overflow_the_page(runs, tmp_path, screenshot):
    values = np.random.default_rng(0).random((600, 128)).astype(np.float32)
    rows = np.arange(600, dtype=np.int32)
    for folder in runs:
        Eigenspaces(rows, values, values, values, values[:, 0], values[:, 0]).write(folder)
    assert call(*runs, f"--out={tmp_path / 'page.html'}") == 0
    screenshot(tmp_path / "page.html", (1200, 1600))


def test_settings_of_old_records_are_those_of_their_time(runs):
    config = json.loads((runs[1] / "result.json").read_text())
    del config["config"]["bn_groups"]
    (runs[1] / "result.json").write_text(json.dumps(config))
    assert "bn_groups" not in differing(read_runs(runs))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["{0}"], "at least two runs"),
        (["{0}", "{0}"], "given twice"),
        (["{0}", "nowhere"], "nowhere holds no finished run"),
        (["{0}", "{1}", "--out=page.txt"], "must end in .html"),
        (["{0}", "{1}", "--out=nowhere/page.html"], "there is no folder"),
        (["{0}", "{1}", "--width=3"], "width"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(arguments, named, runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert call(*(text.format(*runs) for text in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert named in error
    assert sorted(tmp_path.rglob("*")) == before


def test_names_are_what_differs(tmp_path):
    paths = [tmp_path / "a" / "runs" / "byol" / "0", tmp_path / "b" / "runs" / "byol" / "0"]
    assert short_names(paths) == ["a", "b"]
    assert short_names([paths[0], paths[0].with_name("1")]) == ["0", "1"]
    assert short_names([tmp_path / "x", tmp_path / "x" / "y"]) == ["x", "x/y"]
