"""Figures of features: maps in two dimensions, and images next to their nearest neighbours."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from selfsup.analysis.plots import PALETTE, STYLE


def feature_maps(maps: Mapping[str, np.ndarray], labels: np.ndarray, names: Sequence[str]) -> Figure:
    """Draws features in two dimensions, with a colour and marker for each class.

    Args:
        maps: points [N, 2] of each panel, by title.
        labels: classes, int [N], from 0.
        names: names of the classes. Colours and markers repeat after 14 classes.

    Example:
        >>> figure = feature_maps({"t-SNE": np.zeros((3, 2))}, np.array([0, 1, 1]), ["disk", "ring"])
        >>> [text.get_text() for text in figure.legends[0].texts]
        ['disk', 'ring']
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
    """Draws images in rows. The first column, such as queries, is set apart.

    Args:
        rows: images, uint8 [R, C, H, W, 3], for R rows and C columns.
        title: title of the figure.

    Example:
        >>> len(image_rows(np.zeros((2, 3, 8, 8, 3), np.uint8)).axes)  # one empty column sets queries apart
        8
    """
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
