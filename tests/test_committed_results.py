"""What is said of the committed runs is what their records give: reports, figures, and the README's table."""

import io
import re
import shutil
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfsup.commands import reproduce
from selfsup.reproduction.grid import collect
from selfsup.reproduction.registry import SECTIONS
from selfsup.reproduction.tables import HEADER, make_cells, table_rows

ROOT = Path(reproduce.__file__).resolve().parents[2]
REPORTS = sorted(path.parent for path in (ROOT / "results").glob("*/REPORT.md"))
BESIDE = {"long": [f"--beside={ROOT / 'results' / 'lite'}"]}
"""Other flags that a report was written with."""


INTEGRATED = "theory_predictions.png"
"""Its curves are numerical solutions of differential equations, whose last bits depend on the CPU."""


NUMBER = re.compile(r"\d+\.\d+")


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def pinned(package):
    found = re.search(rf"^{package}==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    return found[1]


@pytest.mark.parametrize("folder", REPORTS, ids=lambda path: path.name)
def test_a_report_is_rendered_again_from_its_records(folder, tmp_path):
    again = tmp_path / folder.name
    shutil.copytree(folder, again, ignore=shutil.ignore_patterns("figures", "REPORT.md", "report.html"))
    flags = [f"--out={again}", "--report_only", *BESIDE.get(folder.name, ())]
    assert reproduce.main(["reproduce.py", *flags]) == 0
    assert (again / "REPORT.md").read_text() == (folder / "REPORT.md").read_text()
    drawn = sorted(path.name for path in (again / "figures").glob("*.png"))
    assert drawn == sorted(path.name for path in (folder / "figures").glob("*.png"))
    if any(metadata.version(package) != pinned(package) for package in ("matplotlib", "pillow")):
        pytest.skip("another matplotlib or Pillow than the pinned one draws other bytes")
    for name in drawn:
        ours, theirs = ((at / "figures" / name).read_bytes() for at in (again, folder))
        if name == INTEGRATED:
            assert np.abs(pixels(ours) - pixels(theirs)).mean() < 0.1  # of 255
        else:
            assert ours == theirs, name
    ours, theirs = ((at / "report.html").read_text() for at in (again, folder))
    if INTEGRATED in drawn:  # the page holds that figure as numbers, too
        found, expected = (np.array(NUMBER.findall(text), float) for text in (ours, theirs))
        np.testing.assert_allclose(found, expected, atol=0.11)  # the figures have a tenth of a point
        ours, theirs = (NUMBER.sub("", text) for text in (ours, theirs))
    assert ours == theirs


def test_the_readme_quotes_the_records_of_all_but_the_weight_decay_study():
    marked = (ROOT / "README.md").read_text().split("<!-- results: lite -->")[1].split("\n\n")[0]
    quoted = [[cell.strip() for cell in line.strip("|").split("|")] for line in marked.split("\n")[1:]]
    header, _, *rows = quoted
    sections = [section for name, section in SECTIONS.items() if name != "weight_decay"]
    results = {}
    for run in collect(ROOT / "results" / "lite"):
        if any(run.experiment in section.experiments for section in sections):
            results.setdefault(run.experiment, []).append(run.result)
    cells = [cell for name, found in results.items() for cell in make_cells(name, found)]
    recorded = [dict(zip(HEADER, texts, strict=True)) for texts in table_rows(cells)]
    assert {row[0]: row[1:] for row in rows} == {
        texts["experiment"]: [texts[name] for name in header[1:]] for texts in recorded
    }
