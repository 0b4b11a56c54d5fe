import numpy as np
import pytest

from selfsup.records.recordings import Eigenspaces, read_eigenspaces, read_log
from selfsup.utils.errors import InputError


@pytest.fixture
def known(rng):
    """F and W_p with shared eigenvectors."""
    u = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    return u @ np.diag([1.0, 2, 3, 4]) @ u.T, u @ np.diag([0.5, -1, 2, 0.25]) @ u.T


def test_a_moment_is_measured_from_the_matrices(known):
    correlation, weight = known
    moment = Eigenspaces.measure(6, weight, correlation)
    assert moment.epoch.tolist() == [6]
    np.testing.assert_allclose(moment.correlation_eigenvalues, [[1, 2, 3, 4]], rtol=1e-6)
    np.testing.assert_allclose(moment.predictor_eigenvalues, [[-1, 0.25, 0.5, 2]], rtol=1e-5)
    np.testing.assert_allclose(moment.alignment, [[1, -1, 1, 1]], rtol=1e-6)
    np.testing.assert_allclose(moment.asymmetry, [0], atol=1e-6)
    p = np.array([1, 2, 3, 4]) / 10
    np.testing.assert_allclose(moment.effective_rank, [np.prod(p**-p)], rtol=1e-6)


def test_an_untrained_network_has_no_correlation(known):
    moment = Eigenspaces.measure(0, known[1])
    assert np.isnan(moment.correlation_eigenvalues).all()
    assert np.isnan(moment.alignment).all()
    assert np.isnan(moment.effective_rank).all()
    assert np.isfinite(moment.predictor_eigenvalues).all()
    assert np.isfinite(moment.asymmetry).all()


@pytest.mark.parametrize("broken", ["weight", "correlation"])
def test_a_diverged_network_is_recorded_as_nan(known, broken):
    matrices = dict(zip(("correlation", "weight"), known, strict=True))
    matrices[broken] = np.full((4, 4), np.nan)
    moment = Eigenspaces.measure(3, **matrices)
    assert np.isnan(moment.alignment).all()
    assert np.isnan(moment.predictor_eigenvalues).all() == (broken == "weight")


def test_moments_are_appended_and_read_back(known, tmp_path):
    correlation, weight = known
    recorded = Eigenspaces.measure(0, weight)
    recorded += Eigenspaces.measure(1, weight, correlation)
    recorded.write(tmp_path)
    found = read_eigenspaces(tmp_path)
    assert len(found) == 2
    assert found.epoch.tolist() == [0, 1]
    np.testing.assert_array_equal(found.alignment, recorded.alignment)
    assert found[1:].epoch.tolist() == [1]
    assert found[found.epoch == 0].asymmetry.shape == (1,)


def test_a_crash_while_writing_leaves_the_last_recording(known, tmp_path, monkeypatch):
    first = Eigenspaces.measure(0, known[1])
    first.write(tmp_path)

    def crash(file, **arrays):
        file.write(b"PK half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", crash)
    with pytest.raises(KeyboardInterrupt):
        (first + first).write(tmp_path)
    assert len(read_eigenspaces(tmp_path)) == 1


def test_missing_and_damaged_records_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no eigenspace\.npz"):
        read_eigenspaces(tmp_path)
    with pytest.raises(InputError, match=r"no log\.csv"):
        read_log(tmp_path)
    (tmp_path / "eigenspace.npz").write_bytes(b"PK\x03\x04 no")
    (tmp_path / "log.csv").write_text("epoch,loss\n1,-1\n")
    with pytest.raises(InputError, match="not a recording"):
        read_eigenspaces(tmp_path)
    with pytest.raises(InputError, match="not the log"):
        read_log(tmp_path)


def test_log_columns(tmp_path):
    (tmp_path / "log.csv").write_text(
        "epoch,loss,embedding_std,effective_rank,asymmetry\n1,-1.5,0.8,4,0\n2,-1.6,nan,5,0\n"
    )
    log = read_log(tmp_path)
    np.testing.assert_array_equal(log["epoch"], [1, 2])
    np.testing.assert_array_equal(log["embedding_std"], [0.8, np.nan])
