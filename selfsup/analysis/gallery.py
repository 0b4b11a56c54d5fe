"""Figures of what an encoder knows: maps of its features, and images beside their neighbours."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from selfsup.analysis.plots import PALETTE, STYLE


def feature_maps(maps: Mapping[str, np.ndarray], labels: np.ndarray, names: Sequence[str]) -> Figure:
    """Features in two dimensions, [N, 2] by title, a panel each; a colour and a marker per class.

    Args:
        maps: the points.
        labels: classes int [N], from 0.
        names: of the classes.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5 * len(maps), 4.6), layout="constrained")
        axes = figure.subplots(1, len(maps), squeeze=False)[0]
        for ax, (title, points) in zip(axes, maps.items(), strict=True):
            for label, name in enumerate(names):
                chosen = points[labels == label]
                marker = "o" if label < len(PALETTE) else "^"
                ax.scatter(*chosen.T, s=7, marker=marker, color=PALETTE[label % len(PALETTE)], label=name)
            ax.set_title(title)
            ax.set_axis_off()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", markerscale=2)
    return figure


def image_rows(rows: np.ndarray, title: str = "") -> Figure:
    """Images uint8 [R, C, H, W, 3] as a sheet of R rows, the first column set off: queries, say."""
    count, columns = rows.shape[:2]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.8 * columns + 0.4, 0.8 * count + 0.4), layout="constrained")
        axes = figure.subplots(count, columns + 1, squeeze=False, width_ratios=[1, 0.3] + [1] * (columns - 1))
        for ax in axes.flat:
            ax.set_axis_off()
        for row, images in zip(axes, rows, strict=True):
            for ax, image in zip([row[0], *row[2:]], images, strict=True):
                ax.imshow(image)
        figure.suptitle(title)
    return figure
