"""Figures of accuracies: published values beside ours."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from selfsup.analysis.plots import PALETTE, STYLE
from selfsup.reproduction.tables import Cell

LEAST_SPAN = 10.0
"""Points that an axis of accuracies shows at least, so that small differences look small."""


def accuracy_bars(groups: Mapping[str, Sequence[Cell]], bars: Sequence[str]) -> Figure:
    """The paper's Figure 5: a group of bars per method, with its published values as open circles.

    Args:
        groups: the cells of each group, one per bar; those without a run show the published value alone.
        bars: what the bars of a group are, for the legend.
    """
    width = 0.8 / len(bars)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 3.2), layout="constrained")
        ax = figure.subplots()
        for index, bar in enumerate(bars):
            cells = [group[index] for group in groups.values()]
            x = np.arange(len(cells)) + (index - (len(bars) - 1) / 2) * width
            means = [cell.mean for cell in cells]
            errors = [cell.std for cell in cells]
            ax.bar(x, means, 0.92 * width, yerr=errors, capsize=4, color=PALETTE[index], label=bar, zorder=2)
            published = [np.nan if cell.published is None else cell.published.mean for cell in cells]
            label = "published" if index == 0 else None
            ax.plot(x, published, "o", color="black", markerfacecolor="white", label=label, zorder=3)
        ax.set_xticks(range(len(groups)), list(groups))
        ax.set_ylabel("test accuracy, %")
        ax.grid(axis="x", visible=False)
        ax.set_ylim(0, 100)
        figure.legend(loc="outside right upper")
    return figure


def accuracy_dots(cells: Sequence[Cell]) -> Figure:
    """Published accuracy (open) and ours (filled, with its standard deviation) on a line per experiment.

    Diamonds are the authors' raw results where they differ from the published ones.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.0 + 0.24 * len(cells)), layout="constrained")
        ax = figure.subplots()
        y = np.arange(len(cells))[::-1]
        published = np.array([np.nan if cell.published is None else cell.published.mean for cell in cells])
        ours = np.array([cell.mean for cell in cells])
        errors = np.array([cell.std for cell in cells])
        ax.hlines(y, published, ours, color="0.75", zorder=1)
        ax.plot(published, y, "o", color="black", markerfacecolor="white", label="published", zorder=2)
        raw = [(cell.raw.mean, place) for cell, place in zip(cells, y, strict=True) if cell.raw]
        if raw:
            label = "published (raw)"
            ax.plot(
                *zip(*raw, strict=True), "D", color="0.4", markerfacecolor="none", ms=5, ls="", label=label
            )
        ax.errorbar(ours, y, xerr=errors, fmt="o", color=PALETTE[0], capsize=3, label="ours", zorder=3)
        ax.set_yticks(y, [cell.name for cell in cells])
        ax.set_ylim(-0.7, len(cells) - 0.3)
        low, high = ax.get_xlim()
        widen = max(0.0, LEAST_SPAN - (high - low)) / 2
        ax.set_xlim(low - widen, high + widen)
        ax.set_xlabel("test accuracy, %")
        figure.legend(loc="outside upper center", ncols=3)
    return figure
