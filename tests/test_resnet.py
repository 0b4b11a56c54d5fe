import numpy as np
import pytest
from keras import ops

from selfsup.networks.backbones import in_stock_layers
from selfsup.networks.heads import mlp
from selfsup.networks.resnet import resnet18


def test_parameter_count_is_resnet18s():
    """torchvision's resnet18 has 11,689,512; less its 1000-way classifier, with a 3x3 stem."""
    model = resnet18(64)
    trained = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trained == 11_689_512 - (512 * 1000 + 1000) - 64 * 3 * (49 - 9)


def test_shapes_and_strides(rng):
    model = resnet18(4)
    assert model.output_shape == (None, 32)
    assert model.get_layer("stage1_block1_2_relu").output.shape == (None, 32, 32, 4)
    assert model.get_layer("stage4_block2_2_relu").output.shape == (None, 4, 4, 32)
    assert not [v for v in model.weights if v.path.endswith("bias")]


def test_the_large_stem_is_resnet18s_own():
    model = resnet18(64, (96, 96, 3), stem="large")
    trained = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trained == 11_689_512 - (512 * 1000 + 1000)
    sides = [
        model.get_layer(name).output.shape[1] for name in ("stem_relu", "stem_pool", "stage4_block2_2_relu")
    ]
    assert sides == [48, 24, 3]


def test_convolutions_are_he_normal_by_fan_out():
    kernel = resnet18(32).get_layer("stage4_block2_2_conv").get_weights()[0]
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.02)


def test_our_batch_norm_and_keras_give_the_same_network(rng):
    ours = resnet18(4)
    stock = in_stock_layers(ours)
    assert all(type(layer).__module__.startswith("keras.") for layer in stock.layers)
    x = rng.normal(size=(4, 32, 32, 3)).astype(np.float32)
    for training in (True, False):
        a, b = (ops.convert_to_numpy(m(x, training=training)) for m in (ours, stock))
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(("layers", "parameters"), [(1, 128 * 128), (2, 128 * 512 + 512 + 512 * 128)])
def test_heads(layers, parameters):
    head = mlp(128, layers, "predictor")
    assert sum(int(np.prod(v.shape)) for v in head.trainable_variables) == parameters
    assert head.output_shape == (None, 128)
    assert {v.path.split("/")[0] for v in head.weights} == {"predictor"}
