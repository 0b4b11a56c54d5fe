import numpy as np
import pytest
from conftest import fake_recording
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer

from selfsup.analysis import plots
from selfsup.records.recordings import Eigenspaces
from selfsup.reproduction import figures
from selfsup.reproduction.registry import SECTIONS, Published
from selfsup.reproduction.tables import Cell


def recording(eigenvalues, predictor, epochs=(1, 6)):
    """A recording whose rows all have these spectra, and alignments 0, 1/D, 2/D, ..."""
    rows, dims = len(epochs) + 1, len(eigenvalues)
    blank = np.full((1, dims), np.nan)

    def stacked(row):
        return np.concatenate([blank, np.tile(row, (rows - 1, 1))]).astype(np.float32)

    return Eigenspaces(
        np.array([0, *epochs]),
        stacked(eigenvalues),
        stacked(predictor),
        stacked(np.arange(dims) / dims),
        np.linspace(1, 0.1, rows),
        np.full(rows, 3.0),
    )


HEALTHY = recording([0.1, 1.0, 10.0], [0.2, 0.4, 0.6])
COLLAPSED = recording([-1e-4, 0.0, 3309.0], [0.0, 0.0, 16.7])


def test_the_four_panels_show_the_recording():
    figure = plots.eigenspaces({"healthy": HEALTHY})
    of_f, of_w, alignment, asymmetry = figure.axes[:4]
    assert [line.get_label() for line in of_f.lines] == ["epoch 1", "epoch 6"]
    for ax, expected in ((of_f, [10, 1, 0.1]), (of_w, [0.6, 0.4, 0.2]), (alignment, [2 / 3, 1 / 3, 0])):
        for line in ax.lines:
            np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2])
            np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
    np.testing.assert_allclose(asymmetry.lines[0].get_ydata(), [1, 0.55, 0.1])
    np.testing.assert_array_equal(asymmetry.lines[0].get_xdata(), [0, 1, 6])
    assert of_f.get_yscale() == "log"
    assert of_w.get_yscale() == "linear"


def test_lines_are_coloured_by_epoch_and_a_bar_says_how():
    figure = plots.eigenspaces({"healthy": HEALTHY})
    first, last = (to_hex(line.get_color()) for line in figure.axes[0].lines)
    assert (first, last) == (to_hex(plots.EPOCHS(0.0)), to_hex(plots.EPOCHS(1.0)))
    assert figure.axes[-1].get_ylabel() == "epoch"
    assert figure.axes[-1].get_ylim() == (1, 6)


def test_values_that_reach_zero_or_explode_stay_visible():
    figure = plots.eigenspaces({"healthy": HEALTHY, "collapsed": COLLAPSED})
    assert [ax.get_yscale() for ax in figure.axes[:2]] == ["symlog", "symlog"]
    low, high = figure.axes[4].get_ylim()
    assert low < -1e-4
    assert high > 3309
    assert figure.axes[5].get_ylim()[1] > 16.7
    labels = [text.get_text() for text in figure.axes[4].get_yticklabels()]
    assert "0" in labels
    assert all(labels)


def test_rows_share_their_axes_and_have_titles():
    figure = plots.eigenspaces({"one": HEALTHY, "two": COLLAPSED})
    for column in range(4):
        assert figure.axes[column].get_ylim() == figure.axes[4 + column].get_ylim()
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert texts == ["one", "two"]


def test_nothing_but_an_untrained_network_can_be_drawn():
    figure = plots.eigenspaces({"untrained": HEALTHY[:1]})
    assert len(figure.axes[0].lines) == 0
    np.testing.assert_array_equal(figure.axes[3].lines[0].get_xdata(), [0])


LOG = {
    "epoch": np.array([1, 2]),
    "loss": np.array([-1.0, -1.5]),
    "embedding_std": np.array([0.8, 0.9]),
    "effective_rank": np.array([3.0, 4.0]),
    "asymmetry": np.array([1.0, 0.5]),
}


def test_training_curves_show_the_log_and_the_thresholds():
    figure = plots.training_curves({"a": LOG, "b": LOG})
    for ax, name in zip(figure.axes, list(LOG)[1:], strict=True):
        curves = [line for line in ax.lines if line.get_label() in ("a", "b")]
        assert len(curves) == 2
        np.testing.assert_array_equal(curves[0].get_ydata(), LOG[name])
        assert curves[0].get_color() != curves[1].get_color()
    thresholds = [
        line.get_ydata()[0] for ax in figure.axes for line in ax.lines if line.get_linestyle() == ":"
    ]
    assert thresholds == [0.1, 2.0]
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b", "collapsed below"]
    alone = plots.training_curves({"a": LOG}).legends[0]
    assert [text.get_text() for text in alone.texts] == ["collapsed below"]


@pytest.mark.parametrize("part", SECTIONS)
def test_the_names_of_all_runs_of_a_part_fit_below_the_curves(part):
    figure = plots.training_curves(dict.fromkeys(SECTIONS[part].experiments, LOG))
    figure.draw_without_rendering()
    legend, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert whole.x0 <= legend.x0
    assert legend.x1 <= whole.x1
    assert whole.y0 <= legend.y0
    assert legend.y1 <= min(ax.get_window_extent().y0 for ax in figure.axes)


def cell(name, published, *values):
    return Cell(name, None if published is None else Published(published), "", values)


def test_bars_have_means_deviations_and_published_values():
    groups = {
        "A": (cell("a", 80, 70, 72), cell("a_noema", 60, 50)),
        "B": (cell("b", 81), cell("b_noema", None, 40)),
    }
    ax = figures.accuracy_bars(groups, ("EMA", "no EMA")).axes[0]
    bars = [container for container in ax.containers if isinstance(container, BarContainer)]
    heights = [[bar.get_height() for bar in container] for container in bars]
    np.testing.assert_array_equal(heights, [[71, np.nan], [50, 40]])
    published = [line.get_ydata() for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(published, [[80, 81], [60, np.nan]])
    (segment,) = (s for s in bars[0].errorbar.lines[2][0].get_segments() if len(s))
    np.testing.assert_allclose(segment[:, 1], [71 - 2**0.5, 71 + 2**0.5])


def test_dots_stand_side_by_side():
    ax = figures.accuracy_dots([cell("a", 80, 70, 72), cell("b", 60)]).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    published = next(line for line in ax.lines if line.get_label() == "published")
    np.testing.assert_array_equal(published.get_xdata(), [80, 60])
    np.testing.assert_array_equal(published.get_ydata(), [1, 0])
    ours = ax.containers[0].lines[0]
    np.testing.assert_array_equal(ours.get_xdata(), [71, np.nan])


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        plots.save(plots.eigenspaces({"x": fake_recording()}), tmp_path / name, ("png", "svg"))
    for suffix in ("png", "svg"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
