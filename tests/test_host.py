"""Runs whose images stay on the host, have no labels, or are memory-mapped, against runs as usual."""

import dataclasses

import numpy as np
import pytest

import selfsup
from selfsup.data.batches import ahead, gather
from selfsup.networks.store import on_device
from selfsup.records.recordings import EVALUATED, read_log

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture
def data(rng):
    labels = np.arange(56) % 2
    x = (rng.integers(0, 100, (56, 16, 16, 3)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    return selfsup.Dataset("mine", x[:40], labels[:40], x[40:], labels[40:])


def config(**fields):
    common = {"method": "directpred", "width": 2, "precision": "float32", "batch_size": 8}
    return selfsup.Config(**{**common, "epochs": 2, "probe_epochs": 1, "record_every": 1, **fields})


def test_images_on_the_host_give_the_same_bits(data, tmp_path):
    results = {
        where: selfsup.run(config(images_on=where), tmp_path / where, data=data)
        for where in ("device", "host")
    }
    assert results["host"].weights == results["device"].weights
    assert results["host"].accuracy == results["device"].accuracy
    logs = [(tmp_path / where / "log.csv").read_bytes() for where in results]
    assert logs[0] == logs[1]


def test_memory_mapped_images_give_the_same_bits(data, tmp_path):
    np.save(tmp_path / "x.npy", data.x_train)
    mapped = dataclasses.replace(data, x_train=np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert mapped.fingerprint == data.fingerprint
    settings = config(images_on="host", epochs=1)
    found, expected = (
        selfsup.run(settings, tmp_path / d.x_train.__class__.__name__, data=d) for d in (mapped, data)
    )
    assert found.weights == expected.weights


def test_without_labels_a_run_trains_and_exports_but_does_not_probe(data, tmp_path, capsys):
    plain = selfsup.Dataset("photos", data.x_train)
    result = selfsup.run(config(probe_untrained=True), tmp_path, data=plain)
    assert result.accuracy == {}
    assert result.skipped == {"linear": "the dataset has no labels", "knn": "the dataset has no labels"}
    assert "40 images without labels" in capsys.readouterr().out
    log = read_log(tmp_path)
    assert np.isnan([log["knn"], log["online_linear"]]).all()
    assert np.isfinite([log[name] for name in EVALUATED if name != "knn"]).all()
    assert selfsup.load_encoder(tmp_path)(data.x_test).shape[0] == 16
    assert selfsup.run(config(probe_untrained=True), tmp_path, data=plain).weights == result.weights
    labelled = selfsup.run(config(), tmp_path / "labelled", data=data)
    assert labelled.weights == result.weights, "labels must not influence pre-training"


def test_extra_images_are_trained_on_and_not_probed(data, tmp_path):
    extra = dataclasses.replace(
        data, x_train=data.x_train[:24], y_train=data.y_train[:24], x_extra=data.x_train[24:]
    )
    assert extra.training_images == 40
    results = [
        selfsup.run(config(images_on=where, epochs=1), tmp_path / where, data=extra)
        for where in ("device", "host")
    ]
    assert results[0].weights == results[1].weights
    assert set(results[0].accuracy) == {"linear", "knn"}


def test_gather_takes_rows_in_any_order(data, rng):
    extra = dataclasses.replace(
        data, x_train=data.x_train[:24], y_train=data.y_train[:24], x_extra=data.x_train[24:]
    )
    indices = rng.permutation(40)[:17]
    for dataset in (data, extra):
        np.testing.assert_array_equal(gather(dataset, indices), data.x_train[indices])


def test_ahead_keeps_the_order_and_passes_errors_on():
    assert list(ahead(lambda x: 2 * x, iter(range(20)))) == list(range(0, 40, 2))
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda x: 1 // x, iter([1, 0])))


def test_images_beyond_four_gigabytes_stay_on_the_host():
    assert on_device("auto", 50_000, 32)
    assert on_device("auto", 105_000, 96)
    assert not on_device("auto", 200_000, 96)
    assert on_device("device", 200_000, 96)
    assert not on_device("host", 8, 32)
