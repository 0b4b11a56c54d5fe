import numpy as np
import pytest
from conftest import fake_recording
from matplotlib import rc_context
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from PIL import Image

from selfsup.analysis import plots
from selfsup.records.recordings import Eigenspaces
from selfsup.reproduction import figures
from selfsup.reproduction.registry import SECTIONS, Published
from selfsup.reproduction.tables import Cell, make_cells


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


def growing(first, last):
    """A recording of spectra of 128 that go from one to the other in 21 steps, as in 100 epochs of BYOL."""
    shares = np.linspace(0, 1, 21)[:, None]
    of_f = np.sort(np.exp((1 - shares) * np.log(first[0]) + shares * np.log(last[0])))
    of_w = np.sort((1 - shares) * first[1] + shares * last[1])
    parts = [recording(f, w, (epoch,)) for f, w, epoch in zip(of_f, of_w, range(1, 102, 5), strict=True)]
    return sum((part[1:] for part in parts[1:]), parts[0])


EARLY = np.geomspace(3e-4, 190, 128), np.linspace(0.2, 3.8, 128)
LATE = np.geomspace(1.3e-6, 1.5, 128), np.repeat([0.25, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01, 0.0], 16)
SPREADING = growing(EARLY, LATE)


def heights(ax, values):
    """Where values lie on an axis: 0 at its lower end, 1 at its upper end."""
    points = [(0.0, value) for value in values]
    return ax.transAxes.inverted().transform(ax.transData.transform(points))[:, 1]


def test_small_eigenvalues_of_late_recordings_keep_their_place_beside_large_early_ones():
    ax = plots.eigenspaces({"spreading": SPREADING}).axes[0]
    assert ax.get_yscale() == "log"
    for line, spectrum in zip(ax.lines, SPREADING.correlation_eigenvalues[1:], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), spectrum[::-1])
    last = ax.lines[-1].get_ydata()
    assert (last < 1e-7 * SPREADING.correlation_eigenvalues[1:].max()).sum() > 20
    low, high = heights(ax, last[[-1, -57]])
    assert (low > 0, high - low > 0.2) == (True, True)


def test_late_steps_of_the_predictor_can_be_seen_beside_large_early_eigenvalues():
    ax = plots.eigenspaces({"spreading": SPREADING}).axes[1]
    low, high = heights(ax, [0.0, 0.25])
    assert high - low > 0.4
    assert heights(ax, [3.8]) < 1
    steps = np.unique(ax.lines[-1].get_ydata())
    assert np.diff(heights(ax, steps)).min() > 0.01
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert {"0", "1", "2"} <= set(labels)
    mirrored = recording(EARLY[0], np.linspace(-3.8, 3.8, 128), (1,)) + recording(*LATE, (6,))[1:]
    labels = [text.get_text() for text in plots.eigenspaces({"x": mirrored}).axes[1].get_yticklabels()]
    assert {"\N{MINUS SIGN}2", "2"} <= set(labels)


def test_a_spectrum_with_one_exploded_eigenvalue_is_not_flattened():
    exploded = recording(EARLY[0], np.append(np.linspace(0.0, 1.0, 127), 44.0))
    ax = plots.eigenspaces({"exploded": exploded}).axes[1]
    low, high = heights(ax, [0.0, 1.0])
    assert high - low > 0.3
    assert heights(ax, [44.0]) < 1
    zero = recording(EARLY[0], np.append(np.zeros(127), 44.0))
    assert heights(plots.eigenspaces({"x": zero}).axes[1], [44.0]) < 1


def test_rounding_errors_of_a_recording_are_zero_and_the_same_value_elsewhere_is_not():
    collapsed = recording([-1e-4, 5e-5, 3309.0], [0.1, 0.2, 0.3], (1,))
    healthy = recording([5e-5, 0.1, 10.0], [0.1, 0.2, 0.3], (6,))
    ax = plots.eigenspaces({"both": collapsed + healthy[1:]}).axes[0]
    drawn = [line.get_ydata() for line in ax.lines]
    np.testing.assert_allclose(drawn, [[3309, 0, 0], [10, 0.1, 5e-5]], rtol=1e-6)
    assert ax.get_yscale() == "symlog"
    assert ax.yaxis.get_transform().linthresh == pytest.approx(1e-5)
    assert ax.get_ylim()[0] < 0
    assert ax.get_ylim()[1] > 3309
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert "0" in labels
    assert all(labels)


def test_each_row_has_its_own_axes_of_eigenvalues_and_a_title():
    figure = plots.eigenspaces({"one": HEALTHY, "two": COLLAPSED})
    alone = plots.eigenspaces({"one": HEALTHY})
    for column in range(4):
        ranges = [figure.axes[row * 4 + column].get_ylim() for row in range(2)]
        assert (ranges[0] == ranges[1]) == (column > 1)
        if column < 2:
            assert ranges[0] == alone.axes[column].get_ylim()
    assert [figure.axes[index].get_yscale() for index in (0, 1, 4, 5)] == [
        "log",
        "linear",
        "symlog",
        "linear",
    ]
    high = recording([0.1, 1.0, 10.0], [0.2, 0.4, 0.6])
    high.asymmetry[:] = [1.4, 1.3, 1.2]
    figure = plots.eigenspaces({"one": high, "two": HEALTHY})
    assert figure.axes[3].get_ylim()[0] == -0.05
    assert figure.axes[3].get_ylim()[1] == figure.axes[7].get_ylim()[1] > 1.45
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
    assert not any(line.get_label() == "published (raw)" for line in ax.lines)
    published = next(line for line in ax.lines if line.get_label() == "published")
    np.testing.assert_array_equal(published.get_xdata(), [80, 60])
    np.testing.assert_array_equal(published.get_ydata(), [1, 0])
    ours = ax.containers[0].lines[0]
    np.testing.assert_array_equal(ours.get_xdata(), [71, np.nan])


def test_small_differences_of_accuracies_look_small():
    low, high = figures.accuracy_dots([cell("a", 84.7, 84.83)]).axes[0].get_xlim()
    assert high - low == pytest.approx(10)
    assert (low + high) / 2 == pytest.approx(84.765)


def test_dots_show_raw_results_where_they_differ():
    cells = make_cells("byol_decay_predictor") + make_cells("byol_decay_none")
    ax = figures.accuracy_dots(cells).axes[0]
    (raw,) = (line for line in ax.lines if line.get_label() == "published (raw)")
    np.testing.assert_array_equal(raw.get_xydata(), [[80.42, 0]])


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        plots.save(plots.eigenspaces({"x": fake_recording()}), tmp_path / name, ("png", "svg"))
    for suffix in ("png", "svg"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()


def test_files_of_lines_are_small_and_images_keep_their_colours(tmp_path):
    lines, image = plots.eigenspaces({"x": fake_recording()}), Figure()
    rainbow = np.random.default_rng(0).random((32, 32, 3))
    image.add_subplot().imshow(rainbow)
    for figure, mode in ((lines, "P"), (image, "RGBA")):
        plots.save(figure, tmp_path / "x")
        with rc_context(plots.STYLE):
            figure.savefig(tmp_path / "full.png")
        with Image.open(tmp_path / "x.png") as saved, Image.open(tmp_path / "full.png") as full:
            assert saved.mode == mode
            difference = np.abs(np.subtract(saved.convert("RGB"), full.convert("RGB"), dtype=float))
        assert (difference.max(axis=-1) > 16).mean() < 0.01
