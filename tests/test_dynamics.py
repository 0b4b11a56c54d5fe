"""The recordings that the theory is compared with."""

import keras
import numpy as np
import pytest
from keras import ops

from selfsup import theory
from selfsup.config import Config
from selfsup.model import SiameseModel
from selfsup.records.dynamics import Dynamics, read_dynamics
from selfsup.training import dynamics
from selfsup.training import run as train
from selfsup.training.dynamics import DynamicsLog
from selfsup.utils.errors import InputError


def batch_of(rng, count=7, dims=4):
    return {name: rng.normal(size=(count, dims)) for name in ("z1", "z2", "t1", "t2")}


def test_a_moment_equals_sums_over_images(rng):
    correlation, weight = np.cov(rng.normal(size=(4, 20))), rng.normal(size=(4, 4))
    batches = [batch_of(rng), batch_of(rng)]
    layers = rng.normal(size=(4, 6)), rng.normal(size=(5, 4))
    moment = Dynamics.measure(30, weight, correlation, batches, layers)
    values, vectors = np.linalg.eigh(correlation)
    images = [
        tuple(batch[name][i] for name in ("z1", "z2", "t1", "t2")) for batch in batches for i in range(7)
    ]
    for j in range(4):
        u = vectors[:, j]
        shared = np.mean([(u @ z1) * (u @ z2) for z1, z2, _, _ in images])
        target = np.mean([((u @ t2) * (u @ z1) + (u @ t1) * (u @ z2)) / 2 for z1, z2, t1, t2 in images])
        expected = {
            "eigenvalues": values[j],
            "predictor": sum(u[a] * weight[a, b] * u[b] for a in range(4) for b in range(4)),
            "variance": np.mean([((u @ z1) ** 2 + (u @ z2) ** 2) / 2 for z1, z2, _, _ in images]),
            "shared": shared,
            "gain": target / shared,
        }
        for name, value in expected.items():
            assert getattr(moment, name)[0, j] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    z = np.array([z for z1, z2, _, _ in images for z in (z1, z2)])
    values, vectors = np.linalg.eigh(np.cov(z.T, bias=True))
    np.testing.assert_allclose(moment.centred[0], values, rtol=1e-4)
    for j, along in enumerate(moment.centred_predictor[0]):
        assert along == pytest.approx(vectors[:, j] @ weight @ vectors[:, j], rel=1e-4, abs=1e-6)
    w, v = layers
    c = w @ w.T - v.T @ v
    assert moment.step.tolist() == [30]
    assert np.linalg.norm(moment.imbalance) == pytest.approx(np.sqrt((c**2).sum()), rel=1e-5)
    assert moment.projector_gram.sum() - moment.predictor_gram.sum() == pytest.approx(np.trace(c), rel=1e-5)
    for eigenvalues, matrix in ((moment.projector_gram, w), (moment.predictor_gram, v)):
        singular = np.linalg.svd(matrix, compute_uv=False)[::-1]
        np.testing.assert_allclose(eigenvalues[0], singular**2, rtol=1e-4)
    bracket = correlation @ weight - weight @ correlation
    size = np.linalg.norm(correlation) * np.linalg.norm(weight)
    assert moment.commutator[0] == pytest.approx(np.linalg.norm(bracket) / size, rel=1e-5)


def test_what_does_not_exist_is_nan(rng):
    whole = Dynamics.measure(0, np.eye(4), None, [batch_of(rng)], None)
    assert np.isfinite(whole.shared).all()
    assert np.isnan(whole.imbalance).all()
    for correlation, batches in ((None, []), (np.full((4, 4), np.nan), [batch_of(rng)])):
        moment = Dynamics.measure(0, np.eye(4), correlation, batches, None)
        assert np.isnan(moment.predictor).all()
        assert np.isnan(moment.commutator).all()
    broken = Dynamics.measure(0, np.eye(4), None, [], (np.full((4, 6), np.inf), np.eye(4)))
    assert np.isnan(broken.imbalance).all()
    collapsed = Dynamics.measure(
        5, np.eye(4), np.zeros((4, 4)), [dict.fromkeys(batch_of(rng), np.zeros((7, 4)))], None
    )
    assert collapsed.commutator[0] == 0
    assert np.isnan(collapsed.gain).all()


def test_moments_are_appended_and_read_back(rng, tmp_path):
    recorded = Dynamics.measure(0, np.eye(4), None, [batch_of(rng)], None)
    recorded += Dynamics.measure(10, np.eye(4), np.eye(4), [batch_of(rng)], None)
    recorded.write(tmp_path)
    found = read_dynamics(tmp_path)
    assert found.step.tolist() == [0, 10]
    np.testing.assert_array_equal(found.shared, recorded.shared)
    assert len(found[1:]) == 1
    with np.load(tmp_path / "dynamics.npz") as file:
        older = {name: array for name, array in file.items() if "centred" not in name}
    np.savez(tmp_path / "dynamics.npz", **older)
    found = read_dynamics(tmp_path)
    np.testing.assert_array_equal(found.gain, recorded.gain)
    assert found.centred.shape == (2, 4)
    assert np.isnan(found.centred_predictor).all()
    assert len(theory.power_laws(found, "centred")) == 2
    (tmp_path / "dynamics.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(InputError, match="not a recording of dynamics"):
        read_dynamics(tmp_path)


@pytest.mark.parametrize(
    ("epochs", "every", "steps", "multiple", "expected"),
    [
        (2, 1, 390, 10, [0, 10, 30, 100, 200, 390, 780]),
        (12, 5, 39, 3, [0, 12, 30, 39, 102, 201, 234, 429, 468]),
        (4, 1, 10, 5, [0, 10, 20, 30, 40]),
        (2, 5, 36, 6, [0, 12, 30, 36, 72]),  # 100 and 200 come after the end
    ],
)
def test_moments_are_after_a_few_steps_and_at_the_ends_of_epochs(
    epochs, every, steps, multiple, expected, tmp_path, monkeypatch
):
    def measure(log, step):
        return Dynamics.measure(step, np.eye(2), np.eye(2), [], None)

    monkeypatch.setattr(DynamicsLog, "_measure", measure)

    def callback():
        return DynamicsLog(tmp_path, every, epochs, steps, [])

    log = callback()
    log.on_train_begin()
    for epoch in range(epochs):
        log.on_epoch_begin(epoch)
        for batch in range(multiple - 1, steps, multiple):
            log.on_train_batch_end(batch)
        log.on_epoch_end(epoch)
        resumed = callback()
        resumed.restore(log.state())
        log = resumed
    assert read_dynamics(tmp_path).step.tolist() == expected


@pytest.mark.parametrize("fields", [{"method": "byol"}, {"ema": False, "projector_layers": 3}])
def test_a_recording_is_that_of_a_step_and_changes_no_variable(fields, rng, shallow):
    keras.utils.set_random_seed(0)
    model = SiameseModel(Config(width=2, precision="float32", **fields))
    for variable in model.weights:  # so that target and online network differ
        if "kernel" in variable.path:
            variable.assign(variable + 0.01 * rng.normal(size=variable.shape).astype(np.float32))
    before = [ops.convert_to_numpy(v).copy() for v in model.weights]
    images = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    found = dynamics._forward(model)(images)
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value, err_msg=variable.path)
    expected = model(model.views(images), training=True)
    for name, value in found.items():
        np.testing.assert_allclose(value, ops.convert_to_numpy(expected[name]), rtol=1e-3, atol=1e-4)
    changed = [
        not np.array_equal(ops.convert_to_numpy(v), b) for v, b in zip(model.weights, before, strict=True)
    ]
    assert any(changed)  # by the call above, unlike the recording


def test_the_layers_of_theorem_1(shallow):
    model = SiameseModel(
        Config(method="byol", width=2, precision="float32", learning_rate=0.1, predictor_learning_rate=0.4)
    )
    weight, first = dynamics._layers(model)
    z, hidden = np.eye(128, dtype=np.float32), model.predictor.layers[0]
    np.testing.assert_allclose(
        ops.convert_to_numpy(hidden(z) - hidden.bias), (2 * first @ z).T, rtol=1e-3, atol=1e-5
    )
    h = np.eye(512, dtype=np.float32)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.projector.layers[-1](h)), (weight @ h).T, rtol=1e-3, atol=1e-5
    )
    assert dynamics._layers(SiameseModel(Config(width=2, precision="float32"))) is None


def test_theorem_1_holds_in_a_real_network(tiny_npz, tmp_path, shallow):
    """With ReLU, batch norm, EMA and the cosine: C shrinks by one factor, its two parts do not."""
    config = Config(
        method="byol", width=4, epochs=4, probe_epochs=1, batch_size=8, precision="float32", record_every=1,
        dataset=str(tiny_npz), learning_rate=0.2, momentum=0.0, weight_decay=0.05, tau=0.9,
    )  # fmt: skip
    train.run(config, tmp_path)
    found, constants = read_dynamics(tmp_path), theory.Constants.from_config(config)
    assert found.step.tolist() == [0, 12, 24, 30, 36, 48]
    decay = theory.imbalance_decay(constants.times(found.step), constants)[:, None]
    assert decay[-1] < 0.4
    change, *parts = (
        np.abs(eigenvalues - decay * eigenvalues[0]).max()
        for eigenvalues in (found.imbalance, found.projector_gram, found.predictor_gram)
    )
    assert change < 0.02
    assert min(parts) > 3 * change
