"""The command that writes features: files, neighbours, the page, and bad input."""

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import selfsup
from selfsup.analysis import embedding, page
from selfsup.analysis import map as maps
from selfsup.analysis.encoder import export_encoder, load_encoder
from selfsup.analysis.sources import Source, open_source
from selfsup.commands import embed
from selfsup.data.load import load_dataset
from selfsup.utils.errors import InputError

ROOT = Path(selfsup.__file__).resolve().parents[1]
SIZES = {"red": (40, 32), "green": (32, 32), "blue": (64, 90)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, with the encoder that returns the brightest pixel of each channel."""
    folder = tmp_path_factory.mktemp("run")
    inputs = keras.Input((32, 32, 3))
    backbone = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(inputs))
    export_encoder(backbone, folder / "encoder.keras", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return folder


def write_images(root, rng, classes=SIZES, count=4):
    for channel, (name, size) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.zeros((*size[::-1], 3), np.uint8)
            pixels[..., channel] = rng.integers(100, 256)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


@pytest.fixture
def photos(tmp_path, rng):
    return write_images(tmp_path / "photos", rng)


def call(*arguments):
    return embed.main(["embed", *map(str, arguments)])


def test_features_names_labels_and_neighbours_of_a_folder(run, photos, tmp_path, capsys):
    (photos / "red" / "notes.txt").write_text("no image")
    out = tmp_path / "features.npz"
    assert call(f"--run={run}", f"--images={photos}", f"--out={out}", "--neighbours=3") == 0
    said = capsys.readouterr()
    assert said.err == ""
    for words in ("12 images in", "1 other file skipped", "3 neighbours each", str(out)):
        assert words in said.out
    assert "held out" not in said.out
    with np.load(out) as file:
        found = dict(file)
    assert found["names"].tolist() == [f"{name}/{index}.png" for name in sorted(SIZES) for index in range(4)]
    assert found["class_names"].tolist() == ["blue", "green", "red"]
    assert found["labels"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (found["features"].dtype, found["features"].shape) == (np.float32, (12, 3))
    expected = load_encoder(run)([photos / name for name in found["names"]])
    np.testing.assert_array_equal(found["features"], expected)
    brightness = np.asarray(Image.open(photos / "green" / "2.png")).max() / 127.5 - 1
    np.testing.assert_allclose(found["features"][6], (-1, brightness, -1), atol=1e-5)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    cosines = unit @ unit.T - 3 * np.eye(12)
    np.testing.assert_allclose(found["cosines"], -np.sort(-cosines)[:, :3], atol=1e-6)
    found_cosines = np.take_along_axis(cosines, found["neighbours"], axis=1)
    np.testing.assert_allclose(found_cosines, found["cosines"], atol=1e-6)


def test_csv_has_the_same_numbers(run, photos, tmp_path):
    for name in ("x.npz", "x.csv"):
        arguments = (f"--run={run / 'encoder.keras'}", f"--images={photos}", f"--out={tmp_path / name}")
        assert call(*arguments, "--neighbours=2") == 0
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with np.load(tmp_path / "x.npz") as file:
        found = dict(file)
    assert list(rows[0]) == [
        "name", "label", "feature0", "feature1", "feature2", "neighbour1", "neighbour2", "cosine1", "cosine2",
    ]  # fmt: skip
    assert [row["name"] for row in rows] == found["names"].tolist()
    assert [row["label"] for row in rows] == found["class_names"][found["labels"]].tolist()
    features = np.array([[row[f"feature{index}"] for index in range(3)] for row in rows], np.float32)
    np.testing.assert_array_equal(features, found["features"])
    assert [row["neighbour1"] for row in rows] == found["names"][found["neighbours"][:, 0]].tolist()


def test_a_flat_folder_has_no_labels(run, tmp_path, rng):
    write_images(tmp_path / "flat", rng, {"one": (8, 8)})
    assert call(f"--run={run}", f"--images={tmp_path / 'flat' / 'one'}", f"--out={tmp_path / 'x.npz'}") == 0
    with np.load(tmp_path / "x.npz") as file:
        assert sorted(file) == ["features", "names"]
        assert file["names"].tolist() == ["0.png", "1.png", "2.png", "3.png"]


def test_arrays(run, tmp_path, rng):
    x = rng.integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    names = np.array(["ant", "bee", "cow"])
    np.savez(tmp_path / "full.npz", x_train=x[:4], y_train=[2, 0, 2, 1], x_test=x[4:6], y_test=[0, 1],
             x_extra=x[6:], class_names=names)  # fmt: skip
    np.savez(tmp_path / "images.npz", images=x / 255.0)
    encoder = load_encoder(run)
    found = {}
    for name in ("x.npy", "full.npz", "images.npz"):
        out = tmp_path / f"of_{name}.npz"
        assert call(f"--run={run}", f"--images={tmp_path / name}", f"--out={out}") == 0
        with np.load(out) as file:
            found[name] = dict(file)
        np.testing.assert_array_equal(found[name]["features"], encoder(x), err_msg=name)
    assert found["full.npz"]["names"].tolist()[3:5] == ["x_train[3]", "x_test[0]"]
    assert found["full.npz"]["labels"].tolist() == [2, 0, 2, 1, 0, 1, -1]
    assert found["full.npz"]["class_names"].tolist() == names.tolist()
    assert found["x.npy"]["names"][6] == "images[6]"
    np.savez(tmp_path / "other.npz", pictures=x)
    with pytest.raises(InputError, match="no images under x_train"):
        open_source(str(tmp_path / "other.npz"), 32)


def test_folders_that_cannot_be_split_can_be_embedded(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name / "0.png")
    (tmp_path / "cow").mkdir()
    source = open_source(str(tmp_path), 32)
    assert (source.names, source.labels.tolist()) == (["ant/0.png", "bee/0.png"], [0, 1])
    assert (source.class_names, source.notes) == (("ant", "bee"), ())


def test_a_folder_with_a_test_folder_but_no_train_can_be_embedded(tmp_path):
    for place in ("0.png", "1.png", "test/a.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / place)
    source = open_source(str(tmp_path), 32)
    assert (source.names, source.labels) == (["0.png", "1.png", "test/a.png"], None)


def test_the_label_minus_one_is_none(tmp_path):
    images = np.zeros((6, 8, 8, 3), np.uint8)
    for labels, expected, classes in (
        ([-1, 4, 7, 4, -1, 7], [-1, 0, 1, 0, -1, 1], ("4", "7")),
        ([-1, 1, -1, 1, 1, 1], [0, 1, 0, 1, 1, 1], ("-1", "1")),
    ):
        np.savez(tmp_path / "x.npz", x_train=images, y_train=labels)
        source = open_source(str(tmp_path / "x.npz"), 8)
        assert (source.labels.tolist(), source.class_names) == (expected, classes)


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [([b"cat", b"dog"], None, ("cat", "dog")), ([1, 2], ["cat", "dog"], ("cat", "dog"))],
)
def test_classes_in_arrays_have_the_names_of_training(labels, names, expected, tmp_path):
    given = {} if names is None else {"class_names": np.array(names)}
    images = np.arange(12 * 64 * 3).reshape(12, 8, 8, 3).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x_train=images, y_train=np.array(labels * 6), **given)
    assert open_source(str(tmp_path / "x.npz"), 8).class_names == expected
    trained = load_dataset(str(tmp_path / "x.npz"), image_size=8)
    assert trained.class_names == expected


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_undecodable_names_are_printed_escaped(run, tmp_path, capsys):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (9, 9), (90 * index, 0, 0)).save(folder / f"{index}.png")
    out, page = tmp_path / "x.npz", tmp_path / "page.html"
    assert call(f"--run={run}", f"--images={folder}", f"--out={out}", f"--page={page}") == 0
    assert "caf\\xe9" in page.read_text()


def test_broken_files(run, photos, tmp_path, capsys):
    (photos / "green" / "1.png").write_bytes(b"\x89PNG no")
    arguments = (f"--run={run}", f"--images={photos}", f"--out={tmp_path / 'x.npz'}")
    assert call(*arguments) == 2
    error = capsys.readouterr().err
    assert "green/1.png" in error
    assert "--skip_broken" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.npz").exists()
    assert call(*arguments, "--skip_broken", f"--page={tmp_path / 'x.html'}") == 0
    assert "1 broken left out" in capsys.readouterr().out
    with np.load(tmp_path / "x.npz") as file:
        assert "green/1.png" not in file["names"]
        assert len(file["features"]) == len(file["labels"]) == 11
    assert data_of(tmp_path / "x.html")["names"][5] == "green/2.png"
    for path in photos.rglob("*.png"):
        path.write_bytes(b"nothing")
    assert call(*arguments, "--skip_broken") == 2
    assert "none of the 12 files" in capsys.readouterr().err


def test_only_some_images_are_in_memory(run, monkeypatch):
    alive, most = set(), []

    class Tracked(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    def read(index, size):
        pixels = np.zeros((size, size, 3), np.uint8).view(Tracked)
        alive.add(id(pixels))
        most.append(len(alive))
        return pixels

    monkeypatch.setattr(embedding, "CHUNK", 8)
    done = []
    found = embedding.embed_source(load_encoder(run), Source([""] * 200, read), progress=done.append)
    assert len(found) == 200
    assert done == list(range(8, 201, 8))
    assert max(most) <= 5 * 8


def data_of(path):
    (text,) = re.findall(r'id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    return json.loads(text)


def test_page(run, tmp_path, rng, monkeypatch):
    photos = write_images(tmp_path / "a <b>&'", rng)
    Image.new("RGB", (50, 50), "yellow").save(photos / "red" / "<!--<script>.png")
    arguments = (f"--run={run}", f"--images={photos}", f"--out={tmp_path / 'x.npz'}")
    assert call(*arguments, f"--page={tmp_path / 'map.html'}") == 0
    text = (tmp_path / "map.html").read_text("utf-8")
    assert "<h1>Features of " in text
    assert "a &lt;b&gt;" in text
    assert "13 images" in text
    assert text.count("</script>") == 2
    assert not re.findall(r"https?://|src=\"(?!data:)|@import|url\(", text), "it must need no network"
    data = data_of(tmp_path / "map.html")
    with np.load(tmp_path / "x.npz") as file:
        features, names = file["features"], file["names"]
    assert data["names"] == names.tolist()
    assert data["classes"] == ["blue", "green", "red"]
    assert np.shape(data["neighbours"]) == np.shape(data["cosines"]) == (13, 12)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(data["cosines"][4][0], unit[4] @ unit[data["neighbours"][4][0]], atol=1e-4)
    for points in data["maps"].values():
        assert np.shape(points) == (13, 2)
        assert np.min(points) >= 0
        assert np.max(points) <= 1
    thumbnail = Image.open(io.BytesIO(base64.b64decode(data["thumbnails"][1])))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (96, 96))
    original = np.asarray(Image.open(photos / names[1]))[0, 0].astype(int)
    assert np.abs(np.asarray(thumbnail)[0, 0] - original).max() <= 6
    monkeypatch.setattr(page, "LARGEST", 10)
    assert call(*arguments, f"--page={tmp_path / 'map.html'}") == 0
    assert "10 of 13 images, chosen at random" in (tmp_path / "map.html").read_text("utf-8")
    assert set(data_of(tmp_path / "map.html")["names"]) < set(names)


def test_neighbours_among_duplicates():
    features = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    indices, cosines = embedding.neighbours(features, 3)
    assert (indices != np.arange(15)[:, None]).all()
    np.testing.assert_array_equal(indices // 5, np.arange(15)[:, None] // 5 * np.ones(3))
    np.testing.assert_allclose(cosines, 1)
    assert embedding.neighbours(features, 99)[0].shape == (15, 14)


def blobs(rng):
    labels = np.arange(90) % 3
    return rng.normal(size=(3, 20))[labels] + 0.2 * rng.normal(size=(90, 20)), labels


def test_pca_equals_singular_vectors(rng):
    features, _ = blobs(rng)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    u, s, _ = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(maps.pca(features)), np.abs(u[:, :2] * s[:2]), atol=1e-9)
    assert (maps.pca(np.ones((4, 1))) == 0).all()


def test_tsne_keeps_classes_together(rng):
    features, labels = blobs(rng)
    points = maps.tsne(features)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(90)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    np.testing.assert_array_equal(points, maps.tsne(features))
    for degenerate in (
        np.ones((20, 4)),
        np.zeros((20, 4)),
        features[:3],
        np.repeat(features[:2], 10, axis=0),
    ):
        assert np.isfinite(maps.tsne(degenerate)).all()


def test_affinities_have_the_perplexity():
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # all rows alike, so that p(j|i) is symmetric
    shared = maps.affinities(((x[:, None] - x[None]) ** 2).sum(axis=2), 10.0)
    assert shared.sum() == pytest.approx(1, abs=1e-5)
    assert (np.diag(shared) == 0).all()
    rows = 40 * shared
    entropies = -(rows * np.log(np.maximum(rows, 1e-30))).sum(axis=1)
    np.testing.assert_allclose(np.exp(entropies), 10, rtol=1e-3)


def test_gradient_of_tsne_equals_differences(rng):
    shared = rng.random((9, 9)) * (1 - np.eye(9))
    shared = (shared + shared.T) / (2 * shared.sum())
    points = rng.normal(size=(9, 2))

    def divergence(y):
        kernel = 1 / (1 + ((y[:, None] - y[None]) ** 2).sum(axis=2)) * (1 - np.eye(9))
        return -(shared * np.log(kernel / kernel.sum() + np.eye(9))).sum()

    steps = 1e-5 * np.eye(18).reshape(18, 9, 2)
    expected = [(divergence(points + step) - divergence(points - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(np.ravel(maps._gradient(points, shared, 1.0)), expected, atol=1e-6)


BAD = {
    "no run": (["--images={t}/photos"], "--run is missing"),
    "no images": (["--run={r}"], "--images is missing"),
    "missing run": (["--run={t}/none", "--images={t}/photos"], "no none in"),
    "an empty run": (["--run={t}/empty", "--images={t}/photos"], "no encoder.keras in"),
    "missing images": (["--run={r}", "--images={t}/none"], "there is no folder or file"),
    "an empty folder": (["--run={r}", "--images={t}/empty"], "has no images"),
    "a text": (["--run={r}", "--images={t}/a.txt"], "is not a folder, an .npz or an .npy file"),
    "a damaged npz": (["--run={r}", "--images={t}/bad.npz"], "cannot be read as arrays"),
    "capitals": (["--run={r}", "--images={t}/photos", "--out={t}/x.NPZ"], "out must end in .npz or .csv"),
    "suffix": (["--run={r}", "--images={t}/photos", "--out={t}/x.json"], "out must end in .npz or .csv"),
    "folder missing": (["--run={r}", "--images={t}/photos", "--out={t}/no/x.npz"], "there is no folder"),
    "out is a folder": (["--run={r}", "--images={t}/photos", "--out={t}/dir.npz"], "is a folder"),
    "out is a pipe": (["--run={r}", "--images={t}/photos", "--out={t}/pipe.npz"], "not a regular file"),
    "out is empty": (["--run={r}", "--images={t}/photos", "--out="], "out is empty"),
    "page": (["--run={r}", "--images={t}/photos", "--out={t}/x.npz", "--page={t}/x.pdf"], "page must end in"),
    "neighbours": (["--run={r}", "--images={t}/photos", "--neighbours=0"], "neighbours must be"),
    "one image": (["--run={r}", "--images={t}/one", "--out={t}/x.npz", "--neighbours=2"], "at least two"),
    "grey array": (["--run={r}", "--images={t}/flat.npy", "--out={t}/x.npz"], "must be images"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_status_2(case, run, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "dir.npz", "one"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "one" / "1.png")
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not really")
    np.save(tmp_path / "flat.npy", np.zeros(12))
    before = sorted(tmp_path.rglob("*"))
    arguments, named = BAD[case]
    assert call(*(text.format(t=tmp_path, r=run) for text in arguments)) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert named in said.err
    assert sorted(tmp_path.rglob("*")) == before, "something was left behind"


def test_links_are_followed(run, photos, tmp_path):
    (tmp_path / "link.npz").symlink_to(tmp_path / "real.npz")
    assert call(f"--run={run}", f"--images={photos}", f"--out={tmp_path / 'link.npz'}") == 0
    assert (tmp_path / "link.npz").is_symlink()
    assert (tmp_path / "real.npz").is_file()


def test_help_answers_at_once():
    for command in (["experiments/embed.py"], ["-m", "selfsup", "embed"], ["-m", "selfsup", "export"]):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *command, "--help"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0
        imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
        assert not imported & {"keras", "tensorflow", "jax", "matplotlib"}
        assert "--run=TEXT" in done.stdout
