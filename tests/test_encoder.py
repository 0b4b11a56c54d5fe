"""The encoder: what it computes, what it takes and refuses, its files, and its export to other formats."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import fake_result
from PIL import Image

import selfsup
from selfsup.analysis import formats, probe
from selfsup.analysis.encoder import Encoder, encoder_model, export_encoder, load_encoder
from selfsup.commands import export
from selfsup.networks.backbones import in_stock_layers
from selfsup.networks.resnet import resnet18
from selfsup.utils.errors import InputError

ROOT = Path(selfsup.__file__).resolve().parents[1]
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


def a_backbone(size=32):
    """Stock layers whose batch norm has statistics that differ from any batch's."""
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(6, 5, strides=3, kernel_initializer=keras.initializers.HeNormal(0))(inputs)
    norm = keras.layers.BatchNormalization()
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(norm(x)))
    norm.moving_mean.assign(np.linspace(-0.5, 0.5, 6))
    return keras.Model(inputs, x)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder") / "encoder.keras"
    export_encoder(a_backbone(), path, MEAN, STD)
    return path


@pytest.fixture(scope="module")
def encoder(file):
    return load_encoder(file)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def test_features_equal_those_of_the_backbone_on_normalised_images(tmp_path, images, rng, shallow):
    backbone = resnet18(2)
    for weight in backbone.weights:
        if "moving_mean" in weight.path or "beta" in weight.path:
            weight.assign(rng.uniform(-0.3, 0.3, weight.shape))
    backbone.compile()
    export_encoder(backbone, tmp_path / "encoder.keras", MEAN, STD)
    encoder = load_encoder(tmp_path / "encoder.keras")
    features = encoder(images)
    np.testing.assert_allclose(features, probe.embed(backbone, images, MEAN, STD), atol=1e-5)
    np.testing.assert_array_equal(features, load_encoder(tmp_path / "encoder.keras")(images))
    np.testing.assert_array_equal(features, encoder(images.astype(np.float64)))
    assert (encoder.mean, encoder.std, encoder.image_size, encoder.dimensions) == (MEAN, STD, 32, 4)
    assert features.dtype == np.float32


def test_a_plain_call_uses_the_moving_statistics(file, images):
    encoder = load_encoder(file)
    before = [weight.copy() for weight in encoder.model.get_weights()]
    called = keras.ops.convert_to_numpy(encoder.model(images))
    np.testing.assert_allclose(called, encoder(images), atol=1e-5)
    for old, new in zip(before, encoder.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    training = keras.ops.convert_to_numpy(encoder.model(images, training=True))
    assert np.abs(training - called).max() > 0.1, "fine-tuning needs the statistics of the batch"


@pytest.mark.parametrize(("height", "width"), [(64, 48), (33, 101), (112, 112), (20, 24), (300, 200)])
def test_resizing_inside_equals_pillows(encoder, rng, height, width):
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    expected = np.asarray(square.resize((32, 32), Image.Resampling.BILINEAR), np.float32)
    resize = keras.Model(encoder.model.inputs[0], encoder.model.get_layer("square").output)
    found = keras.ops.convert_to_numpy(resize(image[None]))[0]
    assert np.abs(found - expected).mean() < 0.35  # Pillow rounds twice to whole grey levels
    assert np.abs(found - expected).max() <= 1.01


def test_images_of_the_training_size_are_not_resized(encoder, images):
    resize = keras.Model(encoder.model.inputs[0], encoder.model.get_layer("square").output)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(resize(images)), images)


def test_what_it_takes(encoder, images, rng, tmp_path):
    features = encoder(images)
    large = rng.integers(0, 256, (48, 80, 3), dtype=np.uint8)
    Image.fromarray(images[0]).save(tmp_path / "small.png")
    Image.fromarray(large).save(tmp_path / "large.png")
    of_large = encoder(large)
    assert of_large.shape == encoder(tmp_path / "small.png").shape == (6,)
    given = {
        "a list": list(images),
        "float32": images.astype(np.float32),
        "int64": images.astype(np.int64),
        "a tensor": keras.ops.convert_to_tensor(images),
        "tensors": [keras.ops.convert_to_tensor(image) for image in images],
        "nested lists": [images.tolist()[0], *images[1:]],
    }
    for name, value in given.items():
        np.testing.assert_array_equal(encoder(value), features, err_msg=name)
    mixed = [tmp_path / "small.png", str(tmp_path / "large.png"), large, large.astype(float)]
    mixed += [Image.fromarray(large), keras.ops.convert_to_tensor(large)]
    expected = np.stack([features[0], *[of_large] * 5])
    np.testing.assert_allclose(encoder(mixed), expected, atol=1e-5)
    np.testing.assert_allclose(encoder(np.stack([large, large])), expected[1:3], atol=1e-5)
    np.testing.assert_allclose(encoder(images[0]), features[0], atol=1e-5)
    inside = encoder.model.predict_on_batch(large[None])[0]
    np.testing.assert_allclose(of_large, inside, atol=0.02)
    assert np.isfinite(encoder(np.zeros((2, 32, 32, 3)))).all(), "black images are no mistake"


def test_few_batch_shapes(encoder, rng, monkeypatch):
    shapes = []
    original = encoder.model.predict_on_batch
    monkeypatch.setattr(encoder.model, "predict_on_batch", lambda x: shapes.append(len(x)) or original(x))
    images = rng.integers(0, 256, (261, 32, 32, 3), dtype=np.uint8)
    features = encoder(images)
    assert shapes == [128, 128, 8]
    np.testing.assert_allclose(features[256:], encoder(images[256:]), atol=1e-5)


IMAGE = np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)
REFUSED = {
    "0 to 1": (IMAGE / 255.0, "multiply by 255"),
    "a mask": ((IMAGE > 128).astype(np.float32), "float32 [32, 32, 3] in 0 to 1"),
    "0 to 1 in a list": ([IMAGE, IMAGE / 255.0], "image 1 of the list: float64 [32, 32, 3] in 0 to 1"),
    "normalised": (IMAGE / 64.0 - 2.0, "from -2 to 1.98438"),
    "channels first": (np.zeros((2, 3, 32, 32), np.uint8), "numpy.moveaxis"),
    "one, channels first": (np.zeros((3, 32, 32), np.uint8), "uint8 [3, 32, 32], channels first"),
    "four channels": (np.zeros((2, 32, 32, 4), np.uint8), "[2, 32, 32, 4], expected"),
    "grey": (np.zeros((2, 32, 32), np.uint8), "[2, 32, 32], expected"),
    "five dimensions": (np.zeros((1, 2, 8, 8, 3), np.uint8), "[1, 2, 8, 8, 3], expected"),
    "a batch in a list": ([IMAGE[None]], "image 0 of the list: uint8 [1, 32, 32, 3], expected [H, W, 3]"),
    "nan": (np.full((32, 32, 3), np.nan), "not a number"),
    "infinite": (np.full((32, 32, 3), np.inf), "from inf to inf"),
    "uint16": (IMAGE.astype(np.uint16) * 257, "uint16 [32, 32, 3] from 0 to 65535"),
    "negative": (IMAGE.astype(np.int64) - 1, "from -1 to 254"),
    "bool": (IMAGE > 9, "bool [32, 32, 3], expected"),
    "none": (np.zeros((0, 32, 32, 3), np.uint8), "there are no images"),
    "no height": (np.zeros((2, 0, 32, 3), np.uint8), "there are no images"),
    "an empty list": ([], "there are no images"),
    "None": (None, "NoneType"),
    "a dict": ({"x": IMAGE}, "dict"),
    "a missing file": ("none.png", "none.png"),
    "a folder": (ROOT, "not a regular file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_refuses(encoder, case):
    images, named = REFUSED[case]
    with pytest.raises(InputError) as error:
        encoder(images)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_process_wide_settings_do_not_matter(file, encoder, images):
    expected = encoder(images)
    try:
        keras.config.set_image_data_format("channels_first")
        keras.config.set_floatx("float16")
        keras.config.set_dtype_policy("float16")
        np.testing.assert_allclose(load_encoder(file)(images), expected, atol=1e-6)
        again = encoder_model(encoder.backbone, encoder.mean, encoder.std)
        np.testing.assert_allclose(again.predict_on_batch(images), expected, atol=1e-6)
    finally:
        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


CODE = """
import sys, keras, numpy as np
model = keras.models.load_model(sys.argv[1], compile=False)
layers = [*model.layers, *model.layers[-1].layers]
assert all(type(layer).__module__.startswith("keras.") for layer in layers)
assert "selfsup" not in sys.modules
np.savez(sys.argv[3], *(keras.ops.convert_to_numpy(model(x)) for x in np.load(sys.argv[2]).values()))
"""


def test_the_file_loads_without_this_package_on_the_other_backend(file, encoder, images, rng, tmp_path):
    larger = rng.integers(0, 256, (2, 40, 52, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images, larger)
    environment = {**os.environ, "KERAS_BACKEND": "jax" if ON_TENSORFLOW else "tensorflow"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-c", CODE, str(file), str(tmp_path / "x.npz"), str(tmp_path / "h.npz")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "h.npz") as found:
        np.testing.assert_allclose(found["arr_0"], encoder(images), atol=1e-4)
        np.testing.assert_allclose(found["arr_1"], encoder.model.predict_on_batch(larger), atol=1e-4)


def test_files_of_older_versions(encoder, images, tmp_path):
    in_stock_layers(encoder.backbone, "encoder").save(tmp_path / "encoder.keras")
    with pytest.raises(InputError, match=r"result\.json"):
        load_encoder(tmp_path / "encoder.keras")
    record = fake_result("byol", 70.0)
    replace(record, dataset={**record.dataset, "mean": MEAN, "std": STD}).write(tmp_path)
    np.testing.assert_array_equal(load_encoder(tmp_path)(images), encoder(images))


def test_backbones_of_any_image_size(images, tmp_path):
    inputs = keras.Input((None, None, 3))
    backbone = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(inputs))
    export_encoder(backbone, tmp_path / "encoder.keras", (0, 0, 0), (1 / 255,) * 3, image_size=32)
    encoder = load_encoder(tmp_path)
    assert encoder.image_size == 32
    np.testing.assert_allclose(encoder(images), images.max((1, 2)), rtol=1e-5)


def test_missing_and_damaged_files(tmp_path, file):
    for path in (tmp_path, tmp_path / "none", tmp_path / "none" / "encoder.keras", tmp_path / "other.keras"):
        with pytest.raises(InputError, match="pass the folder of a finished run"):
            load_encoder(path)
    content = file.read_bytes()
    for index, damaged in enumerate((b"", content[:-300], content[:500], b"x" * 500)):
        (tmp_path / f"{index}.keras").write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be loaded") as error:
            load_encoder(tmp_path / f"{index}.keras")
        assert "\n" not in str(error.value)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="the formats are TensorFlow's")
class TestFormats:
    """Features within 1e-4 of the encoder's, by other programs than Keras."""

    def test_saved_model(self, encoder, images, rng, tmp_path):
        import tensorflow as tf

        for _ in range(2):  # the second replaces the first
            formats.write(encoder, tmp_path / "saved", "saved_model")
        assert [path.name for path in tmp_path.iterdir()] == ["saved"]
        serve = tf.saved_model.load(tmp_path / "saved").signatures["serving_default"]
        for x in (images, rng.integers(0, 256, (2, 40, 52, 3), dtype=np.uint8)):
            (found,) = serve(images=tf.constant(x, tf.float32)).values()
            np.testing.assert_allclose(found, encoder.model.predict_on_batch(x), atol=1e-4)
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("")
        with pytest.raises(InputError, match="files other than"):
            formats.write(encoder, tmp_path / "mine", "saved_model")

    @pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
    def test_tflite(self, encoder, images, tmp_path):
        import tensorflow as tf

        formats.write(encoder, tmp_path / "encoder.tflite", "tflite")
        interpreter = tf.lite.Interpreter(str(tmp_path / "encoder.tflite"))
        (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.resize_tensor_input(given["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images.astype(np.float32))
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(made["index"]), encoder(images), atol=1e-4)

    def test_onnx(self, encoder, images, tmp_path):
        pytest.importorskip("tf2onnx")
        onnxruntime = pytest.importorskip("onnxruntime")
        formats.write(encoder, tmp_path / "encoder.onnx", "onnx")
        session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
        assert [(x.name, x.shape) for x in session.get_inputs()] == [("images", ["batch", 32, 32, 3])]
        (found,) = session.run(["features"], {"images": images.astype(np.float32)})
        np.testing.assert_allclose(found, encoder(images), atol=1e-4)


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def call(capsys, *arguments):
    status = export.main(["export", *map(str, arguments)])
    return status, capsys.readouterr()


def test_export_of_an_interrupted_run(tiny_npz, tmp_path, capsys, shallow):
    settings = {"width": 2, "epochs": 2, "batch_size": 48, "probe_epochs": 1, "precision": "float32"}
    config = selfsup.Config(method="byol", dataset=str(tiny_npz), **settings)
    run, kept = tmp_path / "run", {}

    class Keep(Stop):
        def on_epoch_begin(self, epoch, logs=None):
            kept["weights"] = self.model.backbone.get_weights()
            super().on_epoch_begin(epoch)

    with pytest.raises(KeyboardInterrupt):
        selfsup.run(config, run, callbacks=[Keep()])
    with pytest.raises(InputError, match="not finished; selfsup export --run="):
        load_encoder(run)
    capsys.readouterr()
    status, said = call(capsys, f"--run={run}")
    assert (status, said.err) == (0, "")
    assert "checkpoint of step 2 (epoch 1.0), images to features of length 4" in said.out
    encoder = load_encoder(run)
    for found, expected in zip(
        encoder.model.get_weights()[-len(kept["weights"]) :], kept["weights"], strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    data = selfsup.load_dataset(str(tiny_npz))
    assert (encoder.mean, encoder.std, encoder.image_size) == (data.mean, data.std, 32)


def test_export_of_a_finished_run(file, encoder, images, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(file, run)
    fake_result("byol", 70.0).write(run)
    for arguments in ((f"--run={run}",), (f"--run={file}",)):
        status, said = call(capsys, *arguments, f"--out={tmp_path / 'mine.keras'}")
        assert (status, said.err) == (0, "")
        assert f"{tmp_path / 'mine.keras'}: encoder of" in said.out
        np.testing.assert_array_equal(load_encoder(tmp_path / "mine.keras")(images), encoder(images))
    if ON_TENSORFLOW:
        status, said = call(capsys, f"--run={run}", "--format=tflite")
        assert (status, said.err) == (0, "")
        assert "images [N, 32, 32, 3] in 0 to 255" in said.out
        assert (run / "encoder.tflite").stat().st_size > 1000


def test_export_refuses_in_one_line(tiny_npz, tmp_path, capsys, shallow, monkeypatch):
    settings = {"width": 2, "epochs": 2, "batch_size": 48, "probe_epochs": 1, "precision": "float32"}
    config = selfsup.Config(method="sgd", ema=False, dataset=str(tiny_npz), **settings)
    with pytest.raises(KeyboardInterrupt):
        selfsup.run(config, tmp_path / "own", backbone=a_backbone, callbacks=[Stop()])
    (tmp_path / "empty").mkdir()
    shutil.copytree(tmp_path / "own", tmp_path / "early", ignore=shutil.ignore_patterns("*.ckpt"))
    (tmp_path / "diverged").mkdir()
    fake_result("byol", None).write(tmp_path / "diverged")
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    cases = [
        ([], "--run is missing"),
        (["--run=none"], "no folder"),
        ([f"--run={tmp_path / 'empty'}"], "no config.json"),
        ([f"--run={tmp_path / 'own'}"], "has a custom backbone"),
        ([f"--run={tmp_path / 'early'}"], "no checkpoint"),
        ([f"--run={tmp_path / 'diverged'}"], "diverged"),
        ([f"--run={tmp_path}", "--format=gif"], "one of keras, saved_model, onnx, tflite"),
        ([f"--run={tmp_path}", f"--out={tmp_path / 'x.onnx'}"], "out must end in .keras"),
        ([f"--run={tmp_path}", f"--out={tmp_path / 'x.KERAS'}"], "out must end in .keras"),
        ([f"--run={tmp_path}", f"--out={tmp_path / 'no' / 'x.keras'}"], "there is no folder"),
        ([f"--run={tmp_path}", "--format=onnx"], "tf2onnx" if ON_TENSORFLOW else "KERAS_BACKEND=tensorflow"),
    ]
    before = sorted(tmp_path.rglob("*"))
    for arguments, named in cases:
        status, said = call(capsys, *arguments)
        assert (status, said.out, said.err.count("\n")) == (2, "", 1), (arguments, said)
        assert said.err.startswith("error: ")
        assert named in said.err
    assert sorted(tmp_path.rglob("*")) == before, "something was left behind"


def test_names_of_the_formats_agree():
    assert tuple(export.NAMES) == formats.FORMATS
    assert isinstance(Encoder, type)
