"""The report's section "Theory beside practice": the theory of Tian et al. 2021 in runs of the grid."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from selfsup.analysis import theory, theory_plots
from selfsup.config import Config
from selfsup.records.dynamics import DYNAMICS, Dynamics, read_dynamics
from selfsup.records.recordings import read_log
from selfsup.reproduction.grid import Run
from selfsup.reproduction.page import table
from selfsup.utils.errors import InputError

EXPERIMENTS = ("byol", "byol_symmetric", "simsiam", "sgd")
"""Those with a predictor that is trained by gradient: the theory describes how it comes about."""

TITLE = "## Theory beside practice"
INTRODUCTION = """\
How well do the equations of Tian et al. 2021 (arXiv:2102.06810) describe these runs? They are those of
linear networks with the Euclidean loss. `selfsup.theory` has the functions; the recordings are in
`dynamics.npz`."""
THEOREM_1 = """\
**Theorem 1.** No gradient changes C = W W^T - V^T V / alpha_p, so that it shrinks with exp(-2 eta t); W is
the projector's last Dense and V the predictor's first. *deviation* is the distance of C's eigenvalues from
this law, in percent of |C| at the start, and *of the parts* the same in percent of |W W^T| + |V^T V|.
*moved* is how far the nearer part is from the law: a deviation well below it is the theorem at work.
*trace* is the deviation of C's trace, in percent of the sum of its absolute eigenvalues at the start. The
first steps, in which weights change most, are left out where a row starts after the first epoch. Where the
predictor is symmetrised or has its own weight decay (\\*), the theorem holds only for the trace. The first
step that makes a predictor symmetric changes C and is always left out."""
POWER_LAW = """\
**p over s.** According to the theory, p = u^T W_p u grows as the square root of s: the slope in logarithms
tends to 1/2. Slopes are least squares over the n modes above the noise of p, with 95 % t intervals. *Without
the mean of z*, the modes are those of the covariance: the first eigenvector of F is largely the mean, which
the batch norm of a two-layer predictor removes."""
PREDICTION = """\
**Predicted and recorded modes.** The equations of each mode are solved from the recording after the first
epoch to the end. *skill* is 1 for a perfect prediction, 0 for one no better than "nothing changes", and
negative for a worse one (in squares of log p and log s). *restarted* predicts each recording from the one
before it."""
ASSUMPTIONS = """\
**What the equations assume,** measured after the first epoch and at the end: F and W_p commute
(*commutator* 0); inputs of W are white, so that F spreads as W W^T does (*spread*: decades between the
largest and the median eigenvalue), and s grows as W W^T does (*growth*: factors from the first epoch to
the end); and sigma^2 is constant. For the cosine form, many modes make up the squared length of z (*modes
in z*), and lengths are those of the mean: *loss by the means* is the loss that then follows, beside that
of the last epoch. If it is far higher, sigma^2 is largely a variation of lengths, which the cosine does
not see."""

SPECTRA = {"eigenvalues": "of F", "shared": "shared by the views", "centred": "of F without the mean of z"}
"""The values that p is fitted over, by their names in `theory.power_laws`."""
FORMS = ("cosine", "restarted", "Euclidean")
ASSUMED = (
    "commutator", "spread of F", "spread of W W^T", "growth of s", "growth of W W^T", "sigma^2",
    "modes in z", "loss by the means", "loss",
)  # fmt: skip


@dataclass(frozen=True)
class Practice:
    """A run beside the theory: its recordings, their constants, the steps of an epoch, and the last loss."""

    recorded: Dynamics
    constants: theory.Constants
    steps: int
    symmetric: bool
    loss: float

    @property
    def exact(self) -> bool:
        """Whether Theorem 1 is about all eigenvalues, and not only about the trace."""
        same = np.isclose(self.constants.predictor_decay, self.constants.eta, rtol=1e-9, atol=0.0)
        return bool(same) and not self.symmetric

    @property
    def trained(self) -> Dynamics:
        """The recordings from the end of the first epoch on."""
        return self.recorded[self.recorded.step >= self.steps]

    @property
    def conserved(self) -> theory.Conservation:
        """Theorem 1 from the first recording that it applies to."""
        return theory.conservation(self.recorded[int(self.symmetric) :], self.constants)

    def predict(self, loss: str = "cosine", restart: bool = False) -> theory.Prediction | None:
        """The prediction from the first epoch on; None if there is none."""
        try:
            return theory.predict(self.trained, self.constants, loss, restart)
        except InputError:  # no later recording, no mode above the noise, or no solution
            return None


def read(run: Run | None) -> Practice | None:
    """Reads a run; None if it is unfinished, has a schedule, or no recordings after the first epoch."""
    if run is None or run.result is None or not (run.workdir / DYNAMICS).exists():
        return None
    config = Config(**run.result.config)
    if config.resolved.scheduled:
        return None
    images = run.result.dataset["train"] + run.result.dataset.get("unlabelled", 0)
    found = Practice(
        recorded=read_dynamics(run.workdir),
        constants=theory.Constants.from_config(config),
        steps=images // config.batch_size,
        symmetric=config.symmetric,
        loss=float(read_log(run.workdir)["loss"][-1]),
    )
    return found if len(found.trained) else None


def blocks(runs: Mapping[str, Practice], figure: Callable[[str, str, Figure], str]) -> Iterable[str]:
    """Yields the Markdown of the section.

    Args:
        runs: what `read` returned, by experiment; at least one.
        figure: writes a figure under a name, and returns the Markdown that shows it with a title.
    """
    yield TITLE
    yield INTRODUCTION
    yield THEOREM_1
    conserved = {name: run.conserved for name, run in runs.items()}
    header = (
        "experiment",
        "steps",
        "exp(-2 eta t)",
        "C(t) / C",
        "deviation",
        "of the parts",
        "moved",
        "trace",
    )
    yield table(
        header,
        (
            _theorem_1(name + "\\*" * (not run.exact), found)
            for name, run in runs.items()
            for found in (conserved[name], theory.conservation(run.trained, run.constants))
        ),
    )
    yield figure("theory_conservation", "Theorem 1", theory_plots.conservation(conserved))
    yield POWER_LAW
    yield table(
        ("experiment", "s", "after the first epoch", "halfway", "at the end"),
        (
            (name, title, *_slopes(run.trained, over))
            for name, run in runs.items()
            for over, title in SPECTRA.items()
            if over != "centred" or np.isfinite(run.recorded.centred).any()
        ),
    )
    yield figure(
        "theory_power_law",
        "Eigenvalues of W_p over those of F, and the slopes of the fitted lines",
        theory_plots.power_law(
            {name: run.recorded for name, run in runs.items()},
            {name: run.steps for name, run in runs.items()},
        ),
    )
    predicted = {name: found for name, run in runs.items() if (found := run.predict()) is not None}
    if predicted:
        yield PREDICTION
        yield table(
            ("experiment", "modes", *(f"{form}: {x}" for form in FORMS for x in "ps")),
            (_skills(name, runs[name], found) for name, found in predicted.items()),
        )
        yield figure(
            "theory_predictions", "Modes as predicted (lines) and recorded (dots)",
            theory_plots.predictions(predicted),
        )  # fmt: skip
        yield ASSUMPTIONS
        yield table(
            ("experiment", *ASSUMED),
            (_assumptions(name, runs[name]) for name in predicted),
        )


def _theorem_1(name: str, found: theory.Conservation) -> tuple[str, ...]:
    trace = found.trace - found.predicted_trace
    percents = (found.deviation, found.deviation_of_parts, found.moved, trace)
    return (
        name,
        f"{found.step[0]:,} to {found.step[-1]:,}",
        f"{found.decay[-1]:.4f}",
        f"{found.norm[-1]:.4f}",
        *(f"{100 * values[-1]:.2f} %" for values in percents),
    )


def _slopes(recorded: Dynamics, over: str) -> Iterable[str]:
    halfway = np.abs(recorded.step - recorded.step[-1] / 2).argmin()
    rows = np.array([0, halfway, -1])
    for law in theory.power_laws(recorded[rows], over):
        yield (
            f"{law.slope:.2f} [{law.low:.2f}, {law.high:.2f}] (n = {len(law.modes)})"
            if law.known
            else f"too few modes (n = {len(law.modes)})"
        )


def _skills(name: str, run: Practice, cosine: theory.Prediction) -> tuple[str, ...]:
    forms = (cosine, run.predict(restart=True), run.predict("euclidean"))
    skills = (("-", "-") if f is None else (f"{f.skill_p:.2f}", f"{f.skill_s:.2f}") for f in forms)
    return name, str(cosine.p.shape[1]), *(text for pair in skills for text in pair)


def _assumptions(name: str, run: Practice) -> tuple[str, ...]:
    found = theory.assumptions(run.trained)
    courses = [
        f"{values[0]:.2f} to {values[-1]:.2f}"
        for values in (found.commutator, found.spread, found.weight_spread, found.sigma2, found.lengths)
    ]
    growth = [f"{values[-1]:.2f}" for values in (found.growth, found.weight_growth)]
    return name, *courses[:3], *growth, *courses[3:], f"{found.loss[-1]:.2f}", f"{run.loss:.2f}"
