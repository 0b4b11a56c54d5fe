"""Fine-tuning, and the share of the labels that it gets."""

from dataclasses import asdict

import keras
import numpy as np
import pytest

from selfsup.analysis.finetune import Finetuner, Labelled, Recipe, random_weights
from selfsup.augment import Augmentation
from selfsup.data.labels import stratified

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
CROPS = Augmentation(crop_area=(0.5, 1.0), flip_rate=0.0, mean=MEAN, std=STD)  # a flip changes the class


def backbone(features=16):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(features, 5, strides=2, use_bias=False)(inputs)
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def stripes(rng, count, classes=4):
    """Noisy stripes at any phase and in any colours; the class is their angle."""
    y = np.arange(count) % classes
    rows, columns = np.mgrid[:16, :16]
    angle = (np.pi * y / classes)[:, None, None]
    wave = np.sin(np.cos(angle) * rows + np.sin(angle) * columns + rng.uniform(0, 6.3, (count, 1, 1)))
    images = (
        128 + wave[..., None] * rng.uniform(-60, 60, (count, 1, 1, 3)) + rng.normal(0, 8, (count, 16, 16, 3))
    )
    return images.clip(0, 255).astype(np.uint8), y


def labelled(rng, count):
    return Labelled(*stripes(rng, count), *stripes(rng, 400))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.35, 1.0])
def test_a_stratified_share_has_its_part_of_each_class(share, rng):
    sizes = (1, 7, 200, 31)
    classes = rng.permutation(np.repeat(np.arange(4), sizes))
    chosen = stratified(classes, share, seed=5)
    expected = [max(1, round(share * size)) for size in sizes]
    assert np.bincount(classes[chosen]).tolist() == expected
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, stratified(classes, share, seed=5))
    if share < 1:
        assert set(chosen) != set(stratified(classes, share, seed=6))
        assert set(chosen) < set(stratified(classes, 1.2 * share + 0.02, seed=5))


def test_training_equals_numpy(rng):
    """Softmax regression on the means of the pixels: Nesterov momentum, cosine decay, crops off."""
    inputs = keras.Input((16, 16, 3))
    plain = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    whole = Augmentation(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), mean=MEAN, std=STD)
    data = labelled(rng, 40)
    recipe = Recipe(learning_rate=0.5, batch_size=16, epochs=8, least_steps=1)
    tuner = Finetuner(plain, 4, 40, recipe, whole)
    accuracy = tuner([], data, seed=2)

    def features(images):
        return np.hstack([((images / 255).mean((1, 2)) - MEAN) / STD, np.ones((len(images), 1))])

    x, w, velocity = features(data.x_train), np.zeros((4, 4)), np.zeros((4, 4))
    orders = [np.random.default_rng([2, epoch]).permutation(40)[:32].reshape(2, 16) for epoch in range(10)]
    for step, indices in enumerate(np.concatenate(orders)):
        p = np.exp(x[indices] @ w)
        gradient = x[indices].T @ (p / p.sum(1, keepdims=True) - np.eye(4)[data.y_train[indices]]) / 16
        rate = 0.5 * (1 + np.cos(np.pi * step / 20)) / 2
        velocity = 0.9 * velocity - rate * gradient
        w = w + 0.9 * velocity - rate * gradient
    kernel, bias = tuner.network.get_layer("classifier").get_weights()
    np.testing.assert_allclose(np.vstack([kernel, bias]), w, rtol=1e-3, atol=1e-5)
    correct = np.argmax(features(data.x_test) @ w, axis=1) == data.y_test
    assert accuracy == pytest.approx(100 * correct.mean(), abs=0.3)


def test_the_same_seed_gives_the_same_bits_and_the_backbone_is_not_changed(rng):
    network, data = backbone(4), labelled(rng, 24)
    tuner = Finetuner(network, 4, 24, Recipe(epochs=1, least_steps=20), CROPS)
    weights, found, steps = network.get_weights(), [], []
    for seed in (0, 0, 1):
        tuner(weights, data, seed, steps.append)
        found.append(tuner.network.get_weights())
    again = Finetuner(network, 4, 24, Recipe(epochs=1, least_steps=20), CROPS)
    again(weights, data)
    found.append(again.network.get_weights())
    assert steps == [10, 20] * 3
    for first, second, other, fresh in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, fresh)
        assert (first != other).any()
    for before, after in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_same_seed_gives_the_same_masks_of_dropout(rng):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(8)(x))
    network, data = keras.Model(inputs, keras.layers.Dropout(0.5)(x)), labelled(rng, 24)
    tuner, found = Finetuner(network, 4, 24, Recipe(epochs=1, least_steps=20), CROPS), []
    weights = network.get_weights()
    for seed in (0, 1, 0):
        tuner(weights, data, seed)
        found.append(tuner.network.get_weights())
    for first, other, again in zip(*found, strict=True):
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


def test_fine_tuning_beats_training_from_scratch_with_few_labels(rng):
    """The pre-trained network has seen many images of the same kind."""
    network = backbone()
    many = Finetuner(network, 4, 512, Recipe(learning_rate=0.2, epochs=25, batch_size=64), CROPS)
    start = random_weights(network, seed=0)
    assert many(start, labelled(rng, 512)) > 80
    few = Finetuner(network, 4, 8, Recipe(learning_rate=0.05, epochs=1, least_steps=30), CROPS)
    data = labelled(rng, 8)
    pretrained, scratch = few(many.backbone.get_weights(), data), few(start, data)
    assert pretrained > scratch + 5


def test_frozen_layers_are_trained_too(rng):
    network = backbone(4)
    for layer in network.layers:
        layer.trainable = False
    tuner = Finetuner(network, 4, 24, Recipe(epochs=1, least_steps=20), CROPS)
    assert len(tuner.network.trainable_variables) == len(backbone(4).trainable_variables) + 2
    assert not network.trainable_variables


def test_random_weights_are_new_and_seeded():
    network = backbone()
    first, second, again = (random_weights(network, seed)[0] for seed in (1, 2, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != second).all()
    assert (first != network.get_weights()[0]).all()
    assert first.std() == pytest.approx(network.get_weights()[0].std(), rel=0.1)


def test_random_weights_keep_adapted_statistics(rng):
    normalise = keras.layers.Normalization()
    normalise.adapt(rng.normal(3, 7, (64, 16, 16, 3)).astype(np.float32))
    network = keras.Sequential([keras.Input((16, 16, 3)), normalise, keras.layers.Conv2D(4, 3)])
    mean, variance, count, kernel, _ = random_weights(network, seed=0)
    for found, expected in zip((mean, variance, count), normalise.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (kernel != network.layers[-1].get_weights()[0]).all()


def test_the_recipe_is_simclrs():
    assert asdict(Recipe()) == {
        "learning_rate": 0.025, "momentum": 0.9, "batch_size": 128, "epochs": 30, "least_steps": 500,
    }  # fmt: skip


def test_steps():
    recipe = Recipe(batch_size=128, epochs=30, least_steps=500)
    assert [recipe.steps(count) for count in (1, 128, 10_000)] == [500, 500, 2340]
    assert Recipe(epochs=1, least_steps=1).steps(5) == 10
