import numpy as np

from selfsup.analysis import gallery


def test_feature_maps_show_every_point_under_its_class(rng):
    points, labels = rng.normal(size=(30, 2)), np.arange(30) % 3
    figure = gallery.feature_maps({"before": points, "after": -points}, labels, ["a", "b", "c"])
    for ax, expected in zip(figure.axes, (points, -points), strict=True):
        for label, drawn in enumerate(ax.collections):
            np.testing.assert_array_equal(drawn.get_offsets(), expected[labels == label])
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b", "c"]


def test_image_rows_show_the_images(rng):
    rows = rng.integers(0, 256, (2, 3, 4, 4, 3), dtype=np.uint8)
    figure = gallery.image_rows(rows)
    shown = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    np.testing.assert_array_equal(shown, rows.reshape(6, 4, 4, 3))
