"""The reports in `results/` are what their records give: same tables and verdicts, same figures."""

import re
import shutil
from importlib import metadata
from pathlib import Path

import pytest

import reproduce

ROOT = Path(reproduce.__file__).resolve().parent.parent
REPORTS = sorted(path.parent for path in (ROOT / "results").glob("*/REPORT.md"))


def pinned(package):
    found = re.search(rf"^{package}==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    return found[1]


@pytest.mark.parametrize("folder", REPORTS, ids=lambda path: path.name)
def test_a_report_is_rendered_again_from_its_records(folder, tmp_path):
    again = tmp_path / folder.name
    shutil.copytree(folder, again, ignore=shutil.ignore_patterns("figures", "REPORT.md", "report.html"))
    assert reproduce.main(["reproduce.py", f"--out={again}", "--report_only"]) == 0
    assert (again / "REPORT.md").read_text() == (folder / "REPORT.md").read_text()
    drawn = sorted(path.name for path in (again / "figures").iterdir())
    assert drawn == sorted(path.name for path in (folder / "figures").iterdir())
    if metadata.version("matplotlib") != pinned("matplotlib"):
        pytest.skip("another matplotlib than the pinned one draws other bytes")
    for name in drawn:
        assert (again / "figures" / name).read_bytes() == (folder / "figures" / name).read_bytes(), name
