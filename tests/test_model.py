import keras
import numpy as np
import pytest
from keras import ops

from selfsup.config import METHODS, Config, Method
from selfsup.model import SiameseModel

BATCH = 8
pytestmark = pytest.mark.usefixtures("shallow")


ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


def build(eager=ON_TENSORFLOW, **fields):
    """A tiny model; on TensorFlow eager, since tracing takes longer than a few steps."""
    keras.utils.set_random_seed(0)
    config = Config(**{"width": 2, "precision": "float32", **fields})
    model = SiameseModel(config)
    model.compile(run_eagerly=eager)
    return model


@pytest.fixture
def views(rng):
    return tuple(rng.normal(size=(BATCH, 32, 32, 3)).astype(np.float32) for _ in range(2))


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (BATCH, 32, 32, 3), dtype=np.uint8)


def step(model, views):
    return model.train_on_batch(views, return_dict=True)


def snapshot(model):
    return {v.path: ops.convert_to_numpy(v).copy() for v in model.weights}


ALL = [
    {"method": "byol"},
    {"method": "byol", "symmetric": True},
    {"method": "directpred", "freq": 5, "symmetric": True},
    {"method": "simsiam"},
    {"method": "simsiam", "symmetric": True, "predictor_learning_rate": 0.3},
    {"method": "sgd"},
    {"method": "sgd", "ema": False, "symmetric": True},
    {"method": "directpred"},
    {"method": "directpred", "ema": False, "spectrum": "paper"},
    {"method": "directpred", "freq": 3, "projector_layers": 3, "learning_rate": 0.1},
    {"method": "directcopy"},
    {"method": "directcopy", "ema": False, "norm": "spectral"},
    {"method": "directset", "loss": "euclidean"},
    {"method": "directset", "ema": False, "loss": "isoloss"},
]


@pytest.mark.parametrize("fields", ALL, ids=lambda f: "-".join(map(str, f.values())))
def test_every_method_learns(fields, views):
    model = build(**fields, weight_decay=0.0)  # which would move the weights, too
    before = snapshot(model)
    start = model.predictor_weight()
    losses = [step(model, views)["loss"] for _ in range(3)]
    assert np.isfinite(losses).all()
    after = snapshot(model)
    trained = [model.backbone, model.projector]
    if model.resolved.trains_predictor:
        trained.append(model.predictor)
    for network in trained:
        kernels = [v.path for v in network.trainable_variables if v.path.endswith("/kernel")]
        assert len(kernels) >= 1
        for path in kernels:
            assert np.abs(after[path] - before[path]).max() > 1e-6 * np.abs(before[path]).max(), path
    assert float(ops.convert_to_numpy(model.steps)) == 3
    w = model.predictor_weight()
    assert min(np.abs(w - start).max(), np.abs(w - (start + start.T) / 2).max()) > 1e-4
    if fields.get("symmetric") or (METHODS[fields["method"]].rule and "freq" not in fields):
        np.testing.assert_allclose(w, w.T, atol=1e-5)
    else:
        assert not np.allclose(w, w.T, atol=1e-3)


def test_call_returns_both_views(views):
    model = build()
    outputs = model(views)
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    projections = dict.fromkeys(("z1", "z2", "p1", "p2", "t1", "t2"), (BATCH, 128))
    assert shapes == projections | dict.fromkeys(("h1", "h2"), (BATCH, model.backbone.output_shape[-1]))


def test_predictor_weight_acts_on_columns(views, rng):
    model = build(method="sgd")
    z = rng.normal(size=(1, 128)).astype(np.float32)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.predictor(z))[0], model.predictor_weight() @ z[0], rtol=1e-3, atol=1e-5
    )
    kernels = [ops.convert_to_numpy(k) for k in build(method="byol").predictor_kernels]
    assert [k.shape for k in kernels] == [(128, 512), (512, 128)]
    np.testing.assert_allclose(
        build(method="byol").predictor_weight(), kernels[1].T @ kernels[0].T, rtol=1e-3, atol=1e-5
    )


def test_f_starts_with_the_first_batch_and_then_averages(views):
    model = build(rho=0.6, tau=1.0)
    expected = None
    for _ in range(3):
        outputs = model(views, training=True)
        z = np.concatenate([ops.convert_to_numpy(outputs[n]) for n in ("z1", "z2")]).astype(np.float64)
        c = z.T @ z / len(z)
        expected = c if expected is None else 0.6 * expected + 0.4 * c
        step(model, views)
        found = ops.convert_to_numpy(model.correlation)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_freq_sets_w_p_after_the_first_step_and_every_kth_from_there(views):
    model = build(freq=3)
    symmetric = []
    for _ in range(7):
        step(model, views)
        w = model.predictor_weight()
        symmetric.append(bool(np.allclose(w, w.T, atol=1e-5)))
    assert symmetric == [True, False, False, True, False, False, True]


def test_target_starts_as_the_online_network(views):
    model = build(method="byol")
    outputs = model(views, training=True)
    np.testing.assert_array_equal(*(ops.convert_to_numpy(outputs[n]) for n in ("z1", "t1")))


def test_target_is_the_moving_average_of_every_weight(views):
    """target_k = tau^k online_0 + (1 - tau) sum_i tau^(k - i) online_i, batch norm statistics included."""
    tau, k = 0.7, 4
    model = build(method="byol", tau=tau)
    history = [snapshot(model)]
    for _ in range(k):
        step(model, views)
        history.append(snapshot(model))
    targets = [path for path in history[0] if path.split("/")[0].startswith("target_")]
    assert any(path.endswith("moving_variance") for path in targets)
    for path in targets:
        online = [h[path.removeprefix("target_")].astype(np.float64) for h in history]
        expected = tau**k * online[0]
        expected = expected + (1 - tau) * sum(tau ** (k - i) * online[i] for i in range(1, k + 1))
        np.testing.assert_allclose(history[-1][path], expected, rtol=1e-4, atol=1e-5, err_msg=path)


def test_no_ema_equals_a_target_with_tau_zero(views):
    with_target = build(method="sgd", tau=0.0)
    without = build(method="sgd", ema=False)
    values = snapshot(with_target)
    for variable in without.weights:
        variable.assign(values[variable.path])
    for _ in range(3):
        a, b = step(with_target, views), step(without, views)
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), abs=1e-5)
    values = snapshot(with_target)
    for path, value in snapshot(without).items():
        np.testing.assert_allclose(value, values[path], rtol=1e-3, atol=1e-4, err_msg=path)
    assert any(path.startswith("target_") for path in values)
    assert not any(path.startswith("target_") for path in snapshot(without))


def test_a_set_predictor_gets_no_gradient():
    assert not build().predictor.trainable_variables
    assert build(freq=2).predictor.trainable_variables
    assert not build().target_backbone.trainable_variables


def test_fit_takes_images_and_is_reproducible(images):
    runs = []
    for _ in range(2):
        model = build(eager=False)
        history = model.fit(images, batch_size=4, epochs=2, shuffle=False, verbose=0).history
        runs.append((history["loss"], snapshot(model)))
    assert runs[0][0] == runs[1][0]
    for path, value in runs[0][1].items():
        np.testing.assert_array_equal(value, runs[1][1][path], err_msg=path)


def test_stored_images_are_taken_by_index_and_not_saved(images, tmp_path):
    model = SiameseModel(Config(width=2, precision="float32"), images)
    np.testing.assert_array_equal(ops.convert_to_numpy(model.store(np.array([3, 1]))), images[[3, 1]])
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    other = SiameseModel(Config(width=2, precision="float32"), np.zeros_like(images))
    other.load_weights(path)
    np.testing.assert_array_equal(ops.convert_to_numpy(other.store(np.array([0]))), np.zeros_like(images[:1]))
    for a, b in zip(model.backbone.get_weights(), other.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_rule_of_ones_own(monkeypatch, views):
    def half(correlation, eps):
        return 0.5 * ops.eye(128) + eps * 0.0 * correlation

    monkeypatch.setitem(METHODS, "half", Method("half the identity", rule=half, rule_options={"eps": 0.1}))
    model = build(method="half")
    step(model, views)
    np.testing.assert_allclose(model.predictor_weight(), 0.5 * np.eye(128))


def test_an_epoch_without_a_sample_of_the_rank_has_none(images):
    model = build()
    model.rank_every = 3
    ranks = model.fit(images, batch_size=4, epochs=2, shuffle=False, verbose=0).history["effective_rank"]
    assert np.isfinite(ranks[0])
    assert ranks[1] > 0  # step 3 is in the second epoch
    model.rank_every = 1000
    assert np.isnan(model.fit(images, batch_size=4, shuffle=False, verbose=0).history["effective_rank"][0])
