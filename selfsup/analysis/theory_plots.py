"""Figures of theory beside practice, in the style of `plots`; `plots.save` writes them."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from selfsup.analysis.plots import EPOCHS, PALETTE, STYLE
from selfsup.analysis.theory.constants import Constants
from selfsup.analysis.theory.modes import fixed_points, mode_rates
from selfsup.analysis.theory.practice import Conservation, power_laws
from selfsup.analysis.theory.prediction import Prediction
from selfsup.records.dynamics import Dynamics

WIDTH = 10.0
MARKERS = "os^Dv"
MODES = ("largest mode", "second", "third", "fourth", "fifth")
"""The modes that are drawn."""
SUBTICKS = ((1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0,))
"""Ticks of logarithmic axes over up to one power of ten, up to two, and more."""


def phase_portraits(decays: Sequence[float], sigma2: float = 0.0, tau: float = 1.0) -> Figure:
    """Draws how p and s of a mode move under the Euclidean loss, with one panel per weight decay.

    All paths end on the dashed line s = p^2, at a filled circle. An open one is unstable: it divides the line
    into modes that die and modes that live.

    Args:
        decays: values of eta.
        sigma2, tau: of the mode.

    Example:
        >>> len(phase_portraits([0.05, 0.2], sigma2=0.5).axes)
        2
    """
    p = np.linspace(0.0, 1.0, 41)
    grid_p, grid_s = np.meshgrid(p, p)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2 * len(decays), 3.6), layout="constrained")
        for ax, eta in zip(figure.subplots(1, len(decays), squeeze=False)[0], decays, strict=True):
            dp, ds, _ = mode_rates(grid_p, grid_s, np.full_like(grid_p, tau), Constants(eta=eta), sigma2)
            ax.streamplot(p, p, dp, ds, color="0.6", linewidth=0.6, arrowsize=0.7, density=1.1)
            ax.plot(p, p**2, "--", color=PALETTE[0])
            unstable, stable = fixed_points(eta, sigma2, tau)
            for point, face in ((unstable, "white"), (stable, PALETTE[1]), (0.0, PALETTE[1])):
                ax.plot(point, point**2, "o", color=PALETTE[1], mfc=face, ms=7, clip_on=False, zorder=3)
            ax.set_title(rf"$\eta$ = {eta:g}")
            ax.set_xlabel("$p$")
            ax.set_ylabel("$s$")
            ax.set_xlim(0, 1)
            ax.set_ylim(0, 1)
    return figure


def conservation(runs: Mapping[str, Conservation]) -> Figure:
    """Draws Theorem 1: what is left of |C| beside exp(-2 eta t), and the deviation of C's eigenvalues.

    In the right panel, filled markers are the deviation of C, and open ones that of its parts W W^T and
    V^T V: the theorem is about the distance between them.

    Args:
        runs: see `theory.conservation`, by title.

    Example:
        >>> steps = np.arange(3)
        >>> run = Conservation(steps, *[0.9**steps] * 7)
        >>> conservation({"byol": run}).axes[0].get_xlabel()
        'training step'
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for index, (title, run) in enumerate(runs.items()):
            color, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
            left.plot(run.step, run.decay, color=color, lw=0.8)
            left.plot(run.step, run.norm, marker, color=color, ms=5, mfc="none", label=title)
            for values, style, face in ((run.moved, "--", "white"), (run.deviation, "-", color)):
                right.plot(
                    run.step[1:], 100 * values[1:], marker + style, color=color, ms=4, mfc=face, lw=0.8
                )
        left.plot([], [], color="0.3", lw=0.8, label=r"$e^{-2\eta t}$")
        right.plot([], [], "--", color="0.3", lw=0.8, label="$WW^T$ or $V^TV$, the nearer one")
        right.plot([], [], "-", color="0.3", lw=0.8, label="$C$")
        left.set_ylim(bottom=0)
        left.set_title("$|C(t)|\\,/\\,|C(0)|$")
        right.set_xscale("log")
        right.set_yscale("log")
        right.set_title("deviation of eigenvalues from the law, % of $|C(0)|$")
        for ax in (left, right):
            ax.set_xlabel("training step")
            ax.legend(loc="best")
    return figure


def power_law(runs: Mapping[str, Dynamics], steps_per_epoch: Mapping[str, int]) -> Figure:
    """Draws p over s with the fitted power laws, and their slopes over the epochs with 95 % intervals.

    Dots are the modes above the noise, lines the fits to them, and the dotted grey line has the slope 1/2 of
    the theory. Faint dots are the other modes with a positive p.

    Args:
        runs: recordings by title.
        steps_per_epoch: of each run.

    Example:
        >>> s = np.logspace(-4, 0, 20)
        >>> moment = Dynamics.measure(390, np.diag(s**0.5), np.diag(s), [], None)
        >>> power_law({"byol": moment}, {"byol": 390}).axes[0].get_title()
        'byol'
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
        axes = figure.subplots(2, len(runs), squeeze=False, height_ratios=(1.6, 1))
        last = max(run.step[-1] / steps_per_epoch[title] for title, run in runs.items())
        norm = Normalize(0, max(float(last), 2.0))
        for column, (title, run) in zip(axes.T, runs.items(), strict=True):
            epochs = run.step / steps_per_epoch[title]
            _draw_modes(column[0], run, epochs, norm)
            _draw_slopes(column[1], run, epochs, norm)
            column[0].set_title(title, weight="bold")
            column[0].set_xlabel("$s_j$, eigenvalue of $F$")
            column[1].set_xlabel("epoch")
            column[1].set_xlim(0, 1.05 * max(float(last), 2.0))
        axes[0, 0].set_ylabel("$p_j = u_j^T W_p u_j$")
        axes[0, 0].plot([], [], ":", color="0.4", label="slope 1/2")
        axes[0, 0].legend(loc="upper left")
        axes[1, 0].set_ylabel("slope")
        ends = [end for ax in axes[1] for end in ax.get_ylim()]
        for ax in axes[1]:
            ax.set_ylim(max(min(0.0, *ends), -0.5), min(max(0.8, *ends), 1.5))
        figure.colorbar(ScalarMappable(norm, EPOCHS), ax=axes, fraction=0.02, pad=0.01).set_label("epoch")
    return figure


def _draw_modes(ax: Axes, run: Dynamics, epochs: np.ndarray, norm: Normalize) -> None:
    strong = []  # s and p of all modes above the noise
    for epoch, s, p, law in zip(epochs, run.eigenvalues, run.predictor, power_laws(run), strict=True):
        if not len(law.modes):
            continue
        color = EPOCHS(norm(epoch))
        weak = np.setdiff1d(np.flatnonzero((p > 0) & (s > 0)), law.modes)
        ax.plot(s[weak], p[weak], ".", color=color, ms=3, alpha=0.2, mew=0, rasterized=True)
        ax.plot(s[law.modes], p[law.modes], "o", color=color, ms=3, mew=0, rasterized=True)
        strong.append([s[law.modes], p[law.modes]])
        if law.known:
            ends = s[law.modes][[0, -1]]
            ax.plot(ends, np.exp(law.intercept) * ends**law.slope, color=color)
    ax.set_xscale("log")
    ax.set_yscale("log")
    if strong:
        s, p = np.concatenate(strong, axis=1)
        ax.set_ylim(bottom=p.min() / 10)
        ends = s.max() * np.array([1e-3, 1.0])
        ax.plot(ends, p.max() * np.sqrt(ends / s.max()), ":", color="0.4")


def _draw_slopes(ax: Axes, run: Dynamics, epochs: np.ndarray, norm: Normalize) -> None:
    ax.axhline(0.5, color="0.4", ls=":")
    for epoch, law in zip(epochs, power_laws(run), strict=True):
        if law.known:
            half = law.high - law.slope
            ax.errorbar(epoch, law.slope, half, fmt="o", color=EPOCHS(norm(epoch)), ms=4, capsize=3)


def predictions(runs: Mapping[str, Prediction]) -> Figure:
    """Draws the modes of runs: lines are predictions, circles are recordings.

    Args:
        runs: see `theory.predict`, by title. Of each run, up to five modes are drawn, from the largest
            eigenvalue of F on. Grey is the noise of p.

    Example:
        >>> ones = np.ones((2, 3))
        >>> run = Prediction(np.arange(2), *[ones] * 6, ones[:, 0])
        >>> predictions({"byol": run}).axes[0].get_title("right")
        'skill nan'
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
        axes = figure.subplots(2, len(runs), squeeze=False, sharex="col")
        for column, (title, run) in zip(axes.T, runs.items(), strict=True):
            chosen = range(min(run.p.shape[1], len(MODES)))
            pairs = ((run.p, run.recorded_p, run.skill_p), (run.s, run.recorded_s, run.skill_s))
            for ax, (predicted, recorded, skill) in zip(column, pairs, strict=True):
                for mode in chosen:
                    ax.plot(run.step, predicted[:, mode], color=PALETTE[mode], label=MODES[mode])
                    ax.plot(run.step, recorded[:, mode], "o", color=PALETTE[mode], ms=4)
                _round_ticks(ax)
                ax.set_title(f"skill {skill:.2f}".replace("-", "\N{MINUS SIGN}"), loc="right")
            low, high = column[0].get_ylim()
            column[0].set_ylim(max(low, run.floor.min() / 3), high)
            column[0].fill_between(run.step, 0, run.floor, color="0.9", zorder=0)
            column[0].set_title(title, loc="left", weight="bold")
            column[1].set_xlabel("training step")
            column[1].margins(y=0.1)
        shown = max(runs, key=lambda title: runs[title].p.shape[1])
        lines = axes[1, list(runs).index(shown)].get_legend_handles_labels()
        figure.legend(*lines, loc="outside lower center", ncols=len(MODES))
        axes[0, 0].set_ylabel("$p_j$")
        axes[1, 0].set_ylabel("$s_j = u_j^T E[z_1 z_2^T] u_j$")
    return figure


def _round_ticks(ax: Axes) -> None:
    """Sets a logarithmic axis with round numbers as ticks, closer ones on short axes."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=SUBTICKS[int(np.searchsorted((10.0, 100.0), high / low))]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
