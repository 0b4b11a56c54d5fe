"""`REPORT.md` and the self-contained `report.html` from the records of a grid."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from selfsup import collapse
from selfsup.analysis import plots
from selfsup.records.recordings import read_eigenspaces, read_log
from selfsup.records.results import RESULT
from selfsup.reproduction import figures, practice, spectra
from selfsup.reproduction.claims import claims
from selfsup.reproduction.grid import FAILURE, RUNS, Run, collect
from selfsup.reproduction.heading import heading
from selfsup.reproduction.page import table, to_html
from selfsup.reproduction.provenance import dataset_of, describe_origin, describe_scale, is_paper_scale
from selfsup.reproduction.registry import EXPERIMENTS, SECTIONS, canonical
from selfsup.reproduction.tables import HEADER, REUSED, Cell, make_cells, table_rows
from selfsup.utils.files import locked, replacing
from selfsup.utils.outputs import writing
from selfsup.utils.text import literal

REPORT, PAGE, LOCK, FIGURES = "REPORT.md", "report.html", ".lock", "figures"
EIGENSPACE_FIGURES: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "table1": {
        "figure2": ("Figure 2: BYOL, without and with symmetric W_p", ("byol", "byol_symmetric")),
        "figure3": ("Figure 3: SimSiam, without and with symmetric W_p", ("simsiam", "simsiam_symmetric")),
    },
    "figure4": {"figure4": ("Figure 4: symmetric SimSiam, tuned", ("simsiam_symmetric_tuned",))},
    "figure5": {
        "direct_rules": (
            "The one-layer predictors with EMA",
            ("directpred", "directcopy", "sgd"),
        )
    },
}
NOTES = {
    "table2": "The paper calls its model DirectPred, but the published code tests for a name that its "
    "configuration does not have, and trains the predictor by SGD. The published figures are therefore shown "
    "beside both, `directpred_deep` and `sgd_deep`.",
    "weight_decay": "In three cells, the article's Table 3 differs from the authors' own result files, as if "
    "rows and columns of the table had been exchanged. The accuracy in these files is added in parentheses, "
    "as *raw*; the column *difference* refers to the article.",
}
RULES = f"""\
A claim *holds* if, for each of its checks, the Welch 95 % interval of the difference of means lies entirely
inside the required range. It *does not hold* if the interval of one check lies entirely outside. Where a
check is about collapses, all runs must agree with it, or all contradict it. Otherwise, and with fewer than
two seeds, failed runs or runs of different settings, the claim is *undecided*. To *reach* means to be at
most 1 point below. A run has collapsed if, after at least {collapse.MIN_EPOCHS} epochs, the effective rank
of F is below {collapse.RANK:g} or the embedding std below {collapse.STD:g}, both as means over the epoch.

In the tables, *ours* is the linear probe, *k-NN* a weighted k-NN on the backbone's features, and *rank of F*
the effective rank, a mean over the last epoch; all are means over the seeds. Eigenspaces and training curves
show an experiment's first seed that has an accuracy."""


def write_report(
    out: Path, planned: Iterable[str], preset: str, force: bool = False, beside: Sequence[Path] = ()
) -> None:
    """Writes REPORT.md and report.html with every section that has a planned or finished experiment.

    Processes that share the folder take turns. The page gets the time at which the records were read, so
    that a run that ends in the meantime counts as missing.

    Args:
        out: folder of the grid.
        planned: experiments to show, even without a run.
        preset: their preset.
        force: whether to write the report even if it already contains all records.
        beside: folders of other grids, whose recordings are drawn beside these.
    """
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / LOCK, wait=True):
        if force or not _up_to_date(out):
            (out / LOCK).touch()
            read = (out / LOCK).stat().st_mtime_ns
            runs = collect(out)
            shown = {*planned, *(run.experiment for run in runs)}
            dataset = dataset_of((run.result for run in runs if run.result), preset)
            chosen = {name: s for name, s in SECTIONS.items() if s.dataset == dataset}
            sections = [name for name, section in chosen.items() if shown & set(section.experiments)]
            with writing("out", out):
                Report(out, runs, sections, beside).write()
            os.utime(out / PAGE, ns=(read, read))
    print(f"report: {out / REPORT} and {out / PAGE}")


def _up_to_date(out: Path) -> bool:
    """Whether the report is younger than every record."""
    page = out / PAGE
    records = [path for name in (RESULT, FAILURE) for path in out.glob(f"{RUNS}/*/*/{name}")]
    return page.exists() and all(path.stat().st_mtime < page.stat().st_mtime for path in records)


class Report:
    """The report of the runs in a folder.

    Args:
        out: folder of a grid.
        runs: its runs.
        sections: which sections of the report to show, see `registry.SECTIONS`; all of one dataset.
        beside: folders of other grids, whose recordings are drawn beside these.
    """

    def __init__(
        self, out: Path, runs: Iterable[Run], sections: Sequence[str], beside: Sequence[Path] = ()
    ) -> None:
        self.out, self.sections, self.beside = out, sections, beside
        self.dataset = next((SECTIONS[name].dataset for name in sections), "cifar10")
        self.runs: dict[str, list[Run]] = {name: [] for name in EXPERIMENTS}
        for run in runs:
            self.runs[run.experiment].append(run)
        self.cells: dict[str, Cell] = {}
        for name in EXPERIMENTS:
            runs = self.runs[canonical(name)]
            results = [run.result for run in runs if run.result]
            failures = [run.failure for run in runs if run.failure and not run.result]
            for cell in make_cells(name, results, failures, self.dataset):
                self.cells[cell.name] = cell
        self.results = [run.result for run in self._shown() if run.result]

    def write(self) -> None:
        """Writes the figures, REPORT.md and, last, report.html."""
        (self.out / FIGURES).mkdir(parents=True, exist_ok=True)
        text = "\n\n".join(self._blocks()) + "\n"
        for name, content in {REPORT: text, PAGE: to_html(text, self.out)}.items():
            with replacing(self.out / name) as file:
                file.write(content)

    def _shown(self) -> list[Run]:
        names = dict.fromkeys(
            canonical(name) for section in self.sections for name in SECTIONS[section].experiments
        )
        return [run for name in names for run in self.runs[name]]

    def _blocks(self) -> Iterable[str]:
        yield from heading(self.results, self.dataset)
        yield "## The paper's claims"
        yield self._claims()
        yield RULES
        finished = [cell for cell in self._cells_of(self.sections) if cell.n]
        if finished:
            yield self._figure("accuracies", "Published accuracies and ours", figures.accuracy_dots(finished))
        for section in self.sections:
            yield from self._section(section)
        yield from self._practice()
        failed = [run for run in self._shown() if run.failure]
        if failed:
            yield "## Runs without an accuracy"
            yield table(
                ("experiment", "seed", "reason"),
                ((r.experiment, str(r.seed), literal(str(r.failure))) for r in failed),
            )

    def _claims(self) -> str:
        paper_scale = is_paper_scale(self.results)
        rows = []
        for claim in claims():
            verdict, checks = claim.judge(self.cells, paper_scale)
            rows.append((claim.text, verdict, "<br>".join(check.evidence for check in checks)))
        column = "verdict" if paper_scale else "verdict at this scale"
        return table(("claim", column, "figures, in points"), rows)

    def _cells_of(self, sections: Iterable[str]) -> list[Cell]:
        names = dict.fromkeys(name for section in sections for name in SECTIONS[section].experiments)
        return [cell for cell in self.cells.values() if cell.name.removesuffix(REUSED) in names]

    def _section(self, section: str) -> Iterable[str]:
        yield f"## {SECTIONS[section].title}"
        if section in NOTES:
            yield NOTES[section]
        cells = self._cells_of([section])
        cells.sort(key=lambda cell: SECTIONS[section].experiments.index(cell.name.removesuffix(REUSED)))
        yield table(
            (*HEADER, "source of the published value"),
            ((*row, _source(cell)) for row, cell in zip(table_rows(cells), cells, strict=True)),
        )
        names = SECTIONS[section].experiments
        runs = {name: run for name in names if (run := self._first(name)) is not None}
        if not runs:
            return
        results = [r.result for name in runs for r in self.runs[canonical(name)] if r.result]
        yield f"<small>{describe_scale(results)}. {describe_origin(results)}.</small>"
        if section == "figure5":
            yield self._bars()
        for name, (title, rows) in EIGENSPACE_FIGURES.get(section, {}).items():
            recorded = {row: read_eigenspaces(runs[row].workdir) for row in rows if row in runs}
            if recorded:
                yield self._figure(name, title, plots.eigenspaces(recorded))
        if section == "table1":
            yield self._spectra()
        if len(runs) > 1:
            logs = {name: read_log(run.workdir) for name, run in runs.items()}
            yield self._figure(f"{section}_curves", "Training curves", plots.training_curves(logs))

    def _practice(self) -> Iterable[str]:
        names = {canonical(name) for section in self.sections for name in SECTIONS[section].experiments}
        runs = {name: practice.read(self._first(name)) for name in practice.EXPERIMENTS if name in names}
        found = {name: run for name, run in runs.items() if run is not None}
        if found:
            yield from practice.blocks(found, self._figure)

    def _first(self, experiment: str) -> Run | None:
        return next((r for r in self.runs[canonical(experiment)] if r.result and not r.result.diverged), None)

    def _bars(self) -> str:
        names = {"DirectPred": "directpred", "DirectCopy": "directcopy", "SGD": "sgd"}
        groups = {title: (self.cells[name], self.cells[f"{name}_noema"]) for title, name in names.items()}
        return self._figure(
            "figure5", SECTIONS["figure5"].title, figures.accuracy_bars(groups, ("EMA", "no EMA"))
        )

    def _spectra(self) -> str:
        own = [run for runs in self.runs.values() for run in runs]
        grids = {self.out: own} | {folder: collect(folder) for folder in self.beside}
        found = {folder.resolve().name: spectra.courses(runs) for folder, runs in grids.items()}
        return self._figure("spectra", spectra.TITLE, spectra.figure(found))

    def _figure(self, name: str, title: str, figure: plots.Figure) -> str:
        plots.save(figure, self.out / FIGURES / name, ("png", "svg"))
        return f"![{title}]({FIGURES}/{name}.png)\n\n*{title}.*"


def _source(cell: Cell) -> str:
    return cell.source if cell.raw is None else f"{cell.source}; raw: {cell.raw.source}"
