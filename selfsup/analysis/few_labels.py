"""The figure of an evaluation: test accuracies over the share of labels."""

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from selfsup.analysis.plots import PALETTE, STYLE
from selfsup.records.evaluations import Summary


def accuracies(title: str, summaries: Sequence[Summary]) -> Figure:
    """Draws test accuracies over the share of labels, one line per evaluation, with deviations as bars.

    Args:
        title: title of the figure.
        summaries: means and deviations. Baselines (`untrained_...`, `supervised`) are dashed, in the colour
            of what they are compared with.
    """
    shares = {one.key.labels: one.key.images for one in summaries}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4), layout="constrained")
        ax = figure.subplots()
        pairs = {name: _baseline_of(name) for name in dict.fromkeys(one.key.name for one in summaries)}
        colours = dict(zip(dict.fromkeys(pairs.values()), PALETTE, strict=False))
        for index, (name, pair) in enumerate(pairs.items()):
            line = sorted((one for one in summaries if one.key.name == name), key=lambda one: one.key.labels)
            ax.errorbar(
                [one.key.labels * 1.015 ** (index - 2) for one in line],  # bars beside one another
                [one.mean for one in line],
                [one.std or 0.0 for one in line],
                color=colours[pair], linestyle="-" if name == pair else "--",
                marker="o", markersize=4, capsize=3, label=name,
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_xticks(list(shares), [f"{share * 100:g} %\n{count:,}" for share, count in shares.items()])
        ax.xaxis.minorticks_off()
        ax.set_xlabel("share and number of labelled images")
        ax.set_ylabel("test accuracy in percent")
        ax.set_title(title)
        figure.legend(loc="outside right upper")
    return figure


def _baseline_of(name: str) -> str:
    """Returns the evaluation that a baseline is compared with; itself for an evaluation that is none."""
    return "finetune" if name == "supervised" else name.removeprefix("untrained_")
