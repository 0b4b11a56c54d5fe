import keras
import numpy as np
import pytest
from keras import ops

from selfsup.backend.devices import on_gpu
from selfsup.networks.layers import BatchNorm, Conv2D


def pair(rng, channels=5, **kwargs):
    ours, stock = BatchNorm(**kwargs), keras.layers.BatchNormalization(**kwargs)
    for layer in (ours, stock):
        layer.build((None, 4, 4, channels))
    weights = [rng.uniform(0.5, 2, w.shape) for w in stock.get_weights()]
    ours.set_weights(weights)
    stock.set_weights(weights)
    return ours, stock


@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_moving_statistics_equal_keras(rng, training):
    ours, stock = pair(rng, momentum=0.9, epsilon=1e-5)
    x = rng.normal(3, 2, (6, 4, 4, 5)).astype(np.float32)
    for _ in range(3):
        a, b = (ops.convert_to_numpy(layer(x, training=training)) for layer in (ours, stock))
        np.testing.assert_allclose(a, b, atol=2e-5)
    for a, b in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_gradients_equal_keras(rng):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow has the fused operation")
    import tensorflow as tf

    ours, stock = pair(rng)
    x, weight = (tf.constant(rng.normal(size=(6, 4, 4, 5)).astype(np.float32)) for _ in range(2))
    gradients = []
    for layer in (ours, stock):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(weight * layer(x, training=True))
        gradients.append(tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)]))
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_bfloat16_keeps_float32_statistics(rng):
    ours, stock = pair(rng, dtype="mixed_bfloat16", momentum=0.9)
    x = rng.normal(3, 2, (32, 4, 4, 5)).astype(np.float32)
    a, b = (layer(ops.cast(x, "bfloat16"), training=True) for layer in (ours, stock))
    assert "bfloat16" in str(a.dtype)
    np.testing.assert_allclose(*(ops.convert_to_numpy(ops.cast(v, "float32")) for v in (a, b)), atol=0.05)
    for v, w in zip(ours.weights, stock.weights, strict=True):
        assert v.dtype == "float32"
        np.testing.assert_allclose(ops.convert_to_numpy(v), ops.convert_to_numpy(w), rtol=1e-4, atol=1e-5)


def test_momentum_one_leaves_the_statistics_alone(rng):
    ours, _ = pair(rng, momentum=1.0)
    before = ours.get_weights()
    ours(rng.normal(size=(6, 4, 4, 5)).astype(np.float32), training=True)
    for a, b in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("channels", "filters", "pixels", "size", "stride"),
    [(32, 8, 4, 3, 1), (80, 8, 8, 3, 1), (32, 8, 8, 3, 2), (32, 8, 8, 1, 2), (17, 4, 4, 1, 1)],
)
def test_convolution_and_its_gradients_equal_keras(rng, channels, filters, pixels, size, stride):
    if keras.backend.backend() != "tensorflow" or on_gpu():
        pytest.skip("differs from Keras only on TensorFlow and CPUs")
    import tensorflow as tf

    options = {"strides": stride, "padding": "same", "use_bias": False}
    ours = Conv2D(filters, size, dtype="mixed_bfloat16", **options)
    stock = keras.layers.Conv2D(filters, size, dtype="float32", **options)
    x = tf.cast(rng.normal(size=(6, pixels, pixels, channels)), tf.bfloat16)
    for layer in (ours, stock):
        layer.build(x.shape)
    assert ours._by_products(x)
    kernel = np.asarray(tf.cast(tf.cast(stock.get_weights()[0], tf.bfloat16), tf.float32))
    found = []
    for layer, dtype in ((ours, tf.bfloat16), (stock, tf.float32)):
        layer.set_weights([kernel])
        inputs = tf.cast(x, dtype)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.cast(layer(inputs), tf.float32)
            loss = tf.reduce_sum(outputs**2)
        gradients = tape.gradient(loss, [inputs, layer.kernel.value])
        found.append([outputs, *(tf.cast(g, tf.float32) for g in gradients)])
    for a, b in zip(*found, strict=True):
        assert np.linalg.norm(a - b) <= 0.01 * np.linalg.norm(b)


def test_convolutions_of_many_pixels_or_in_float32_are_keras():
    x = ops.ones((1, 8, 8, 64), "bfloat16")
    assert not Conv2D(4, 3, padding="same", dtype="mixed_bfloat16")._by_products(x)
    assert not Conv2D(4, 3, padding="same", dtype="float32")._by_products(ops.ones((1, 4, 4, 64)))


@pytest.mark.parametrize("shape", [(1, 7, 7, 64), (1, 4, 8, 64)])
def test_convolutions_of_other_shapes_are_keras(shape):
    layer = Conv2D(4, 3, strides=2, padding="same", dtype="mixed_bfloat16")
    assert not layer._by_products(ops.ones(shape, "bfloat16"))


@pytest.mark.parametrize(
    "fields",
    [
        {"use_bias": True, "bias_initializer": "ones"},
        {"activation": "relu"},
        {"dilation_rate": 2},
        {"padding": "valid"},
        {"groups": 3},
    ],
    ids=lambda fields: next(iter(fields)),
)
@pytest.mark.parametrize("size", [1, 3])
def test_a_convolution_with_other_settings_is_keras(rng, fields, size):
    """Three channels and a 1x1 kernel, or bfloat16 and few pixels, would take the fast path."""
    dtype = "float32" if size == 1 else "bfloat16"
    settings = {"kernel_size": size, "padding": "same", "use_bias": False, "dtype": dtype, **fields}
    ours, stock = Conv2D(6, **settings), keras.layers.Conv2D(6, **settings)
    x = ops.cast(rng.normal(size=(2, 5, 5, 30)), dtype)
    stock.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(stock.get_weights())
    a, b = (ops.convert_to_numpy(ops.cast(layer(x), "float32")) for layer in (ours, stock))
    np.testing.assert_allclose(a, b, atol=1e-6)
