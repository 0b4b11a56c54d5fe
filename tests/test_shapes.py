import numpy as np
from PIL import Image

from selfsup.data import shapes
from selfsup.data.load import load_dataset


def test_shapes_are_seeded_and_balanced():
    labels = np.arange(20) % 10
    a, b = (shapes.draw(labels, np.random.default_rng(0)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, shapes.draw(labels, np.random.default_rng(1)))
    data = shapes.read_shapes(32)
    assert (data.x_train.shape, data.x_test.shape) == ((10_000, 32, 32, 3), (2_000, 32, 32, 3))
    assert np.bincount(data.y_train).tolist() == [1000] * 10
    assert np.bincount(data.y_test).tolist() == [200] * 10
    assert (data.name, data.note, data.class_names[4]) == ("shapes", "", "triangle")


def test_a_folder_of_the_same_name_is_mentioned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_dataset("shapes").note == ""
    (tmp_path / "shapes").mkdir()
    assert load_dataset("shapes").note == "built in; not the folder here, which is ./shapes"


def test_the_dataset_is_that_of_load_shapes_at_any_size(monkeypatch):
    monkeypatch.setattr(shapes, "TRAIN", 40)
    monkeypatch.setattr(shapes, "TEST", 20)
    x_train, y_train, x_test, y_test = shapes.load_shapes()
    drawn, resized = shapes.read_shapes(32), shapes.read_shapes(20)
    np.testing.assert_array_equal(drawn.x_train, x_train)
    np.testing.assert_array_equal(drawn.x_test, x_test)
    for data in (drawn, resized):
        assert data.y_train.tolist() == y_train.tolist()
        assert data.y_test.tolist() == y_test.tolist()
    expected = Image.fromarray(x_test[7]).resize((20, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resized.x_test[7], np.asarray(expected))
    assert resized.note == "images of 32x32 resized to 20x20"


def test_colours_of_shapes_do_not_reveal_the_class():
    labels = np.arange(4000) % 10
    images = shapes.draw(labels, np.random.default_rng(0)) / 255
    colours = np.array([images[labels == k].mean((0, 1, 2)) for k in range(10)])
    spread = images.mean((1, 2)).std(0) / np.sqrt(400)
    assert (np.abs(colours - colours.mean(0)) < 4 * spread).all()
