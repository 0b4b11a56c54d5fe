import keras
import numpy as np
import pytest
from keras import ops

from selfsup.config import Config
from selfsup.optimizers import CoupledSGD, Group, from_config

SHAPES = {
    "backbone/kernel": (3, 2),
    "backbone/gamma": (2,),
    "backbone/bias": (2,),
    "predictor/kernel": (2, 2),
}
STEPS = 5


def variables(start):
    made = []
    for path, value in start.items():
        scope, name = path.split("/")
        with keras.name_scope(scope):
            made.append(keras.Variable(value, name=name))
    assert [v.path for v in made] == list(start)
    return made


def start_and_gradients(rng):
    start = {path: rng.normal(size=shape).astype(np.float32) for path, shape in SHAPES.items()}
    gradients = [[rng.normal(size=s).astype(np.float32) for s in SHAPES.values()] for _ in range(STEPS)]
    return start, gradients


def trained(optimizer, start, gradients):
    weights = variables(start)
    for step in gradients:
        optimizer.apply([ops.convert_to_tensor(g) for g in step], weights)
    return [ops.convert_to_numpy(w) for w in weights]


def by_hand(start, gradients, rates, decays, momentum):
    weights = [value.astype(np.float64) for value in start.values()]
    velocity = [np.zeros_like(w) for w in weights]
    for step in gradients:
        for i, g in enumerate(step):
            velocity[i] = momentum * velocity[i] + g + decays[i] * weights[i]
            weights[i] = weights[i] - rates[i] * velocity[i]
    return weights


def test_coupled_l2_equals_momentum_sgd_by_hand(rng):
    start, gradients = start_and_gradients(rng)
    found = trained(CoupledSGD(0.1, 0.9, 0.05), start, gradients)
    expected = by_hand(start, gradients, [0.1] * 4, [0.05, 0.05, 0.0, 0.05], 0.9)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_group_has_its_own_rate_and_penalty(rng):
    start, gradients = start_and_gradients(rng)
    optimizer = CoupledSGD(0.1, 0.9, 0.05, {"predictor": Group(7.0, 0.2)})
    expected = by_hand(start, gradients, [0.1, 0.1, 0.1, 0.7], [0.05, 0.05, 0.0, 0.2], 0.9)
    for a, b in zip(trained(optimizer, start, gradients), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_equals_torch(rng):
    torch = pytest.importorskip("torch")
    start, gradients = start_and_gradients(rng)
    weights = [torch.tensor(v, requires_grad=True) for v in start.values()]
    groups = [
        {"params": weights[:2], "weight_decay": 0.05},
        {"params": weights[2:3], "weight_decay": 0.0},
        {"params": weights[3:], "weight_decay": 0.2, "lr": 0.7},
    ]
    reference = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    for step in gradients:
        for w, g in zip(weights, step, strict=True):
            w.grad = torch.tensor(g)
        reference.step()
    found = trained(CoupledSGD(0.1, 0.9, 0.05, {"predictor": Group(7.0, 0.2)}), start, gradients)
    for a, b in zip(found, weights, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_from_config():
    optimizer = from_config(
        Config(method="simsiam", learning_rate=0.2, predictor_learning_rate=2.0, weight_decay=0.0)
    )
    assert optimizer.groups == {"predictor": Group(10.0, 0.0)}
    assert optimizer.l2 == 0.0
    assert from_config(Config()).groups == {}


def test_survives_serialisation():
    optimizer = CoupledSGD(0.1, 0.8, 0.05, {"predictor": Group(7.0, 0.2)})
    copy = CoupledSGD.from_config(optimizer.get_config())
    assert (copy.groups, copy.l2, copy.momentum) == (optimizer.groups, 0.05, 0.8)
