"""The figures of a run, from its records."""

from pathlib import Path

from selfsup.analysis import plots
from selfsup.records.recordings import read_eigenspaces, read_log
from selfsup.records.workdir import CURVES_FIGURE, EIGENSPACE_FIGURE


def draw(title: str, workdir: Path) -> None:
    """Draws `eigenspace.png` and `curves.png` next to the records of a run."""
    figures = {
        EIGENSPACE_FIGURE: plots.eigenspaces({title: read_eigenspaces(workdir)}),
        CURVES_FIGURE: plots.training_curves({title: read_log(workdir)}, evaluated=True),
    }
    for name, figure in figures.items():
        plots.save(figure, workdir / Path(name).stem)
