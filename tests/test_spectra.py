"""The figure of our eigenspaces beside the published recordings, and the numbers of the latter."""

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import fake_recording, fake_result, write_fake_run
from matplotlib.colors import to_hex
from scipy import stats

from selfsup.commands import reproduce
from selfsup.records.recordings import Eigenspaces
from selfsup.reproduction import spectra
from selfsup.reproduction.grid import collect
from selfsup.reproduction.report import Report

PAPER = Path(os.environ.get("PAPER_RECORDINGS", "missing"))
FILES = {
    "byol": "byol",
    "byol_symmetric": "byol_symmetric_predictor",
    "simsiam": "simsiam",
    "simsiam_symmetric": "simsiam_symmetric_predictor",
}


@pytest.mark.skipif(not PAPER.exists(), reason="the authors' recordings are not here")
@pytest.mark.parametrize("name", FILES)
def test_the_published_summaries_are_those_of_the_recordings(name):
    found = spectra.published()[name]
    with np.load(PAPER) as recorded:
        of_f, asymmetry, alignment = (
            recorded[f"{FILES[name]}/{key}"].astype(np.float64)
            for key in ("F_eigenval", "symmetry", "allignment")
        )
    of_f = np.clip(of_f, 0, None)
    assert found.epoch.tolist() == [*range(1, 102, 5)]
    np.testing.assert_allclose(found.effective_rank, np.exp(stats.entropy(of_f, axis=1)), rtol=5e-4)
    np.testing.assert_allclose(found.largest, of_f[:, -1], rtol=5e-4)
    np.testing.assert_allclose(found.asymmetry, asymmetry[1:], rtol=5e-4, atol=1e-6)
    assert found.aligned.tolist() == [sum(-cosine > 0.9 for cosine in row) for row in alignment]


def test_published_runs_end_as_the_report_says():
    ends = {name: run.effective_rank[-1] for name, run in spectra.published().items()}
    assert ends["simsiam_symmetric"] < 1.1 < ends["simsiam"] < ends["byol"] < ends["byol_symmetric"]
    assert all(
        (spectra.published()[f"{name}_symmetric"].asymmetry == 0).all() for name in ("byol", "simsiam")
    )


def test_summaries_of_a_recording():
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    recorded = Eigenspaces.measure(0, turn)
    recorded += Eigenspaces.measure(1, np.eye(2) + 0.4 * turn, np.diag([2.0, 2.0]))  # cos = 0.928
    recorded += Eigenspaces.measure(3, np.eye(2) + 0.6 * turn, np.diag([6.0, 0.0]))  # cos = 0.857
    found = spectra.course(recorded)
    assert found.epoch.tolist() == [1, 3]
    np.testing.assert_allclose(found.effective_rank, [2, 1])
    np.testing.assert_allclose(found.largest, [2, 6])
    np.testing.assert_allclose(found.asymmetry, [1.6 / 2.8, 2.4 / 3.2], rtol=1e-6)
    assert found.aligned.tolist() == [2, 0]


def test_what_diverged_has_gaps():
    recorded = Eigenspaces.measure(1, np.eye(2), np.eye(2)) + Eigenspaces.measure(2, np.full((2, 2), np.nan))
    found = spectra.course(recorded)
    np.testing.assert_array_equal(np.isnan(found.largest), [False, True])
    assert found.aligned.tolist() == [2, 0]


def test_each_seed_has_a_line_and_each_grid_a_colour():
    ours = [spectra.course(fake_recording(seed)) for seed in (0, 1)]
    figure = spectra.figure({"long": {"simsiam": ours}, "lite": {"byol": ours[:1]}})
    rows = np.array(figure.axes).reshape(2, 4)
    assert [row[0].get_ylabel() for row in rows] == ["byol", "simsiam"]
    for ax, panel in zip(rows[1], spectra.PANELS, strict=True):
        theirs, *lines = (line for line in ax.lines if len(line.get_xdata()))
        np.testing.assert_array_equal(theirs.get_ydata(), getattr(spectra.published()["simsiam"], panel))
        for line, run in zip(lines, ours, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            np.testing.assert_array_equal(line.get_ydata(), getattr(run, panel))
    lite, long = rows[0, 0].lines[-1], rows[1, 0].lines[2]
    assert to_hex(lite.get_color()) != to_hex(long.get_color())
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["published", "long", "lite"]


@pytest.fixture
def grid(tmp_path):
    def write(name, *experiments):
        for experiment in experiments:
            write_fake_run(
                tmp_path / name / "runs" / experiment / "0", fake_result(experiment, 50.0, "quick")
            )
        return tmp_path / name

    return write


def test_the_report_shows_the_spectra_of_table_1_alone(grid):
    out = grid("ours", "byol")
    Report(out, collect(out), ["table1", "figure5"]).write()
    assert (out / "REPORT.md").read_text().count("](figures/spectra.png)") == 1
    other = grid("direct", "directpred")
    Report(other, collect(other), ["table1", "figure5"]).write()
    assert "spectra" not in (other / "REPORT.md").read_text()


def test_other_grids_are_drawn_beside(grid):
    out, other = grid("ours", "byol"), grid("theirs", "byol", "simsiam")
    write_fake_run(out / "runs" / "simsiam" / "0", fake_result("simsiam", None, "quick"))  # diverged
    drawn = out / "figures" / "spectra.svg"
    assert reproduce.main(["reproduce.py", f"--out={out}", "--report_only"]) == 0
    alone = drawn.read_text()
    assert reproduce.main(["reproduce.py", f"--out={out}", "--report_only", f"--beside={other}"]) == 0
    assert drawn.read_text().count("<!-- simsiam -->") > alone.count("<!-- simsiam -->") == 0


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        ("nowhere", "no run has ended in nowhere"),
        ("~/nowhere", f"no run has ended in {Path.home()}"),
        ("x/ours", "need different names"),
        ("a,", "commas"),
    ],
)
def test_a_wrong_grid_beside_is_one_clear_line(grid, beside, named, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid("ours", "byol")
    grid("x/ours", "byol")
    assert reproduce.main(["reproduce.py", "--out=ours", "--report_only", f"--beside={beside}"]) == 2
    (line,) = capsys.readouterr().err.strip().split("\n")
    assert named in line
    assert not (tmp_path / "ours" / "REPORT.md").exists()
