"""Theory beside practice: recordings made of exact solutions, with and without planted deviations."""

import dataclasses

import numpy as np
import pytest
from conftest import fake_result, write_fake_run
from scipy import stats

from selfsup import theory
from selfsup.analysis import theory_plots
from selfsup.config import Config
from selfsup.records.dynamics import Dynamics, read_dynamics
from selfsup.reproduction import practice
from selfsup.reproduction.grid import collect
from selfsup.reproduction.report import Report
from selfsup.theory import Constants, linear_networks
from selfsup.training import run as train
from selfsup.utils.errors import InputError

STEPS = np.array([0, 20, 60, 200, 600])
WEAK, STRONG = 10, 8


def recordings(steps, p, s, tau=1.0, sigma2=0.0, parts=None):
    """Recordings of these modes, [R, D] each, and of the parts W W^T and V^T V of C, [R, D, D] each."""
    p, s, tau, sigma2 = (np.broadcast_to(x, np.shape(p)).astype(np.float32) for x in (p, s, tau, sigma2))
    if parts is None:
        grams = [np.full(p.shape, np.nan, np.float32)] * 3
    else:
        grams = [np.linalg.eigvalsh(x) for x in (parts[0] - parts[1], *parts)]
    variance = (1 + sigma2) * s
    return Dynamics(
        np.asarray(steps), variance, p, variance, s, tau, np.zeros(len(steps), np.float32), *grams
    )


def solved(loss, constants, rng):
    """Exact solutions of strong modes above weak ones that hardly count."""
    p = np.r_[np.full(WEAK, 1e-6), np.sort(rng.uniform(0.2, 0.6, STRONG))]
    s = np.r_[np.linspace(1e-9, 2e-9, WEAK), np.sort(rng.uniform(0.3, 2.0, STRONG))]
    sigma2, tau = rng.uniform(0.1, 0.5, len(p)), rng.uniform(0.8, 1.0, len(p))
    found = theory.solve_modes(p, s, constants.times(STEPS), constants, sigma2, tau, loss)
    return recordings(STEPS, found.p, found.s, found.tau, sigma2)


@pytest.mark.parametrize("loss", ["euclidean", "cosine"])
@pytest.mark.parametrize("restart", [False, True])
def test_exact_solutions_are_predicted(loss, restart, rng):
    constants = Constants(eta=0.01, alpha_p=1.5, beta=0.05, dt=0.1)
    recorded = solved(loss, constants, rng)
    found = theory.predict(recorded, constants, loss, restart)
    assert found.p.shape == (len(STEPS), STRONG)
    np.testing.assert_allclose(found.p, recorded.predictor[:, : -STRONG - 1 : -1], rtol=1e-4)
    assert min(found.skill_p, found.skill_s) > 0.9999
    wrong = theory.predict(recorded, Constants(eta=0.1, alpha_p=1.5, beta=0.05, dt=0.1), loss, restart)
    assert wrong.skill_p < found.skill_p - 0.02
    assert wrong.skill_s < 0


@pytest.mark.parametrize("restart", [False, True])
def test_the_skill_of_a_planted_jump(restart, rng):
    """After the first moments, p jumps by a factor that no equation knows: only a restart recovers."""
    constants = Constants(eta=0.01, dt=0.1)
    exact = solved("euclidean", constants, rng)
    jump = np.where(np.arange(len(STEPS)) < 2, 1.0, 0.2)[:, None]
    found = theory.predict(
        recordings(STEPS, exact.predictor * jump, exact.shared, sigma2=0.3), constants, "euclidean", restart
    )
    trivial = np.log(found.recorded_p / found.reference_p)[1:]
    errors = np.log(found.p / found.recorded_p)[1:]
    assert found.skill_p == pytest.approx(1 - (errors**2).sum() / (trivial**2).sum(), abs=1e-6)
    assert found.skill_p < 0.9
    np.testing.assert_allclose(found.reference_p[-1], found.recorded_p[-2 if restart else 0])


def test_values_below_the_noise_count_as_the_noise():
    values = (np.array([[1.0], [1e-9]]), np.array([[1.0], [-0.2]]), np.ones((2, 1)))
    p, recorded, ones = values
    one = theory.Prediction(np.arange(2), p, ones, recorded, ones, ones, ones, np.full(2, 0.1))
    assert one.skill_p == 1.0
    assert np.isnan(one.skill_s)


def test_without_recordings_there_is_nothing_to_compare():
    found = recordings(np.array([1]), np.ones((1, 4)), np.ones((1, 4)))[:0]
    with pytest.raises(InputError, match="two recordings, not 0"):
        theory.predict(found, theory.Constants())
    with pytest.raises(InputError, match="no recording"):
        theory.assumptions(found)


def test_a_prediction_without_modes_or_moments_is_refused(rng):
    noise = recordings([0, 1], rng.normal(size=(2, 20)) * 1e-3, np.ones((2, 20)))
    for function in (lambda x: theory.predict(x, Constants()), theory.assumptions):
        with pytest.raises(InputError, match="noise"):
            function(noise)
    with pytest.raises(InputError, match="two recordings"):
        theory.predict(solved("cosine", Constants(), rng)[:1], Constants())


def test_the_square_root_law_appears_as_theorem_1_says():
    """s - p^2 / alpha_p dies out, so that the slope tends to 1/2 from whatever it was."""
    constants = Constants(eta=0.02, alpha_p=2.0)
    s, sigma2 = np.logspace(-2, 0, 30), np.logspace(0.3, -1, 30)
    p, times = 0.9 * s**0.2, np.array([0.0, 50.0, 100.0])
    found = theory.solve_modes(p, s, times, constants, sigma2)
    laws = [theory.fit_power_law(*pair, np.arange(30)) for pair in zip(found.s, found.p, strict=True)]
    assert laws[0].slope == pytest.approx(0.2)
    assert laws[0].high < 0.5
    assert laws[2].slope == pytest.approx(0.5, abs=0.01)
    assert np.exp(laws[2].intercept) == pytest.approx(np.sqrt(2), rel=0.02)


def test_the_law_in_the_covariance_is_that_of_its_own_eigenvectors(rng):
    basis = np.linalg.qr(rng.normal(size=(32, 32)))[0]
    z = (rng.normal(size=(4000, 32)) * np.logspace(-3, 0, 32)) @ basis.T
    covariance = np.cov(z.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    weight = vectors @ np.diag(values**0.5) @ vectors.T
    mean = 20.0 * basis[:, 20]  # where W_p is small
    batch = dict.fromkeys(("z1", "z2", "t1", "t2"), z - z.mean(axis=0) + mean)
    moment = Dynamics.measure(1, weight, covariance + np.outer(mean, mean), [batch], None)
    (law,) = theory.power_laws(moment, "centred")
    assert law.slope == pytest.approx(0.5, abs=1e-3)
    (of_f,) = theory.power_laws(moment)
    assert of_f.slope < 0.45


def test_the_interval_is_that_of_a_regression_and_covers(rng):
    s = np.logspace(-3, 1, 40)
    inside = 0
    for _ in range(400):
        p = 0.3 * np.sqrt(s) * np.exp(0.3 * rng.normal(size=40))
        law = theory.fit_power_law(s, p, np.arange(10, 40))
        inside += law.low < 0.5 < law.high
    expected = stats.linregress(np.log(s[10:]), np.log(p[10:]))
    assert (law.slope, law.intercept) == pytest.approx((expected.slope, expected.intercept))
    half = stats.t.ppf(0.975, 28) * expected.stderr
    assert (law.low, law.high) == pytest.approx((law.slope - half, law.slope + half))
    assert 0.92 < inside / 400 < 0.98


@pytest.mark.parametrize("power", [0.3, 0.5, 1.0])
def test_the_choice_of_modes_hardly_biases_the_slope(power, rng):
    s = np.logspace(-5, 1, 128)
    laws = [
        theory.fit_power_law(
            s, 0.5 * s**power * np.exp(0.2 * rng.normal(size=128)) + 0.02 * rng.normal(size=128)
        )
        for _ in range(200)
    ]
    assert np.mean([law.slope for law in laws]) == pytest.approx(power, abs=0.01)
    assert 0.88 < np.mean([law.low < power < law.high for law in laws]) < 0.99
    assert not len(theory.leading_modes(np.full(8, np.nan)))
    one_apart = np.r_[0.01 * rng.normal(size=20), 1.0, 2.0, 3.0, -0.5]
    assert theory.leading_modes(one_apart).tolist() == [22, 21, 20]


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_modes_below_the_noise_do_not_bend_the_slope(power, rng):
    s = np.logspace(-5, 1, 128)
    p = 0.5 * s**power + 0.02 * rng.normal(size=128)
    recorded = recordings([0, 1], np.stack([0.02 * rng.normal(size=128), p]), np.stack([s, s]), sigma2=0.4)
    for over in ("eigenvalues", "shared"):
        start, law = theory.power_laws(recorded, over)
        assert not start.known
        assert law.low < power < law.high
        assert law.high - law.low < 0.2
    assert abs(theory.fit_power_law(s[p > 0], p[p > 0], np.arange((p > 0).sum())).slope - power) > 0.05
    np.testing.assert_array_equal(law.modes, 127 - np.arange(len(law.modes)))
    assert theory.noise_floor(p) == pytest.approx(0.06, rel=0.4)


def test_shared_parts_that_are_not_positive_are_left_out():
    s = np.array([-1.0, 1.0, 2.0, 4.0, 8.0, 16.0])
    law = theory.fit_power_law(s, np.sqrt(np.abs(s)), np.arange(6))
    assert law.modes.tolist() == [1, 2, 3, 4, 5]
    assert law.slope == pytest.approx(0.5)
    assert not theory.fit_power_law(s[:4], np.ones(4), np.arange(4)).known


def networks(rng, constants, symmetric=False, count=5):
    d, n, times = 4, 6, np.linspace(0, 30, count)
    shared, noise = (a @ a.T for a in rng.normal(size=(2, n, n)) * np.array([0.4, 0.2])[:, None, None])
    predictor = rng.normal(size=(d, d))
    predictor = (predictor + predictor.T) / 2 if symmetric else predictor
    net = theory.solve_networks(
        predictor, 0.5 * rng.normal(size=(d, n)), times, shared, noise, constants, symmetric
    )
    parts = net.weight @ net.weight.mT, net.predictor.mT @ net.predictor / constants.alpha_p
    ones = np.ones((len(times), d))
    return recordings(np.arange(len(times)) * 10, ones, ones, parts=parts)


def test_theorem_1_in_an_exact_solution(rng):
    constants = Constants(eta=0.03, alpha_p=2.0, dt=0.75)
    recorded = networks(rng, constants)
    found = theory.conservation(recorded, constants)
    np.testing.assert_allclose(found.decay, np.exp(-0.06 * np.linspace(0, 30, 5)))
    np.testing.assert_allclose(found.norm, found.decay, atol=1e-6)
    np.testing.assert_allclose(found.trace, found.predicted_trace, atol=1e-6)
    assert max(found.deviation.max(), found.deviation_of_parts.max()) < 1e-6
    later = theory.conservation(recorded[2:], constants)
    np.testing.assert_allclose(later.decay, found.decay[2:] / found.decay[2])
    assert later.deviation.max() < 1e-6
    assert found.moved[1:].min() > 0.05
    wrong = theory.conservation(recorded, Constants(eta=0.02, alpha_p=2.0, dt=0.75))
    assert wrong.deviation[-1] == pytest.approx(abs(found.decay[-1] - wrong.decay[-1]), abs=1e-6)
    c = np.linalg.norm(recorded.imbalance, axis=1)
    parts = sum(np.linalg.norm(x, axis=1) for x in (recorded.projector_gram, recorded.predictor_gram))
    np.testing.assert_allclose(wrong.deviation_of_parts, wrong.deviation * c[0] / parts)


def test_the_traces_follow_their_law_where_the_eigenvalues_do_not(rng):
    constants = Constants(eta=0.01, eta_p=0.04, alpha_p=2.0, dt=0.05)
    recorded = networks(rng, constants, symmetric=True, count=61)
    found = theory.conservation(recorded, constants)
    np.testing.assert_allclose(found.trace, found.predicted_trace, atol=2e-3)
    one_decay = theory.conservation(recorded, Constants(eta=0.01, alpha_p=2.0, dt=0.05))
    assert abs(found.trace - one_decay.predicted_trace).max() > 0.05
    assert found.deviation.max() > 0.1


def test_the_trace_of_a_long_run_with_a_large_decay_is_finite():
    constants = Constants(eta=0.5, eta_p=0.5, dt=1.0)
    steps = np.array([0, 1, 5000])
    gram = np.array([np.eye(4)] * 3)
    found = theory.conservation(recordings(steps, np.ones((3, 4)), 1.0, parts=(2 * gram, gram)), constants)
    decay = np.exp(-(constants.times_from_rest(steps) - constants.times_from_rest(steps[:1])))
    np.testing.assert_allclose(found.predicted_trace, decay, rtol=1e-6, atol=1e-300)


def test_theorem_1_needs_a_trained_predictor():
    with pytest.raises(InputError, match="trained by gradient"):
        theory.conservation(recordings([0, 1], np.ones((2, 4)), np.ones((2, 4))), Constants())


def test_the_time_from_rest_is_that_of_momentum():
    constants, weight, velocity = Constants(dt=0.3, momentum=0.9), 0.0, 0.0
    for n in range(1, 40):
        velocity = 0.9 * velocity + 1.0
        weight += 0.03 * velocity
        assert constants.times_from_rest(n) == pytest.approx(weight)
    assert Constants(dt=0.3).times_from_rest(7) == pytest.approx(2.1)
    assert Constants.from_config(Config(momentum=0.5)).momentum == 0.5


def test_theorem_1_in_a_real_network_whose_two_layers_are_symmetrised(tiny_npz, tmp_path, shallow):
    """The traces of C and of its parts follow their laws once the first step has made them symmetric."""
    config = Config(
        method="byol", symmetric=True, width=4, epochs=4, probe_epochs=1, batch_size=8, precision="float32",
        record_every=1, dataset=str(tiny_npz), learning_rate=0.1, momentum=0.5, weight_decay=0.05, tau=0.9,
    )  # fmt: skip
    train.run(config, tmp_path)
    recorded, constants = read_dynamics(tmp_path), Constants.from_config(config)
    found = theory.conservation(recorded[1:], constants)
    assert found.decay[-1] < 0.5
    np.testing.assert_allclose(found.trace, found.predicted_trace, atol=0.02)
    for part in (recorded.projector_gram, recorded.predictor_gram):
        norms = part[1:].sum(axis=1)
        np.testing.assert_allclose(norms / norms[0], found.decay, atol=0.03)
    assert theory.conservation(recorded, constants).deviation[1] > 0.1


def test_assumptions_are_measured(rng):
    recorded = solved("cosine", Constants(eta=0.01, dt=0.1), rng)
    found = theory.assumptions(recorded)
    np.testing.assert_array_equal(found.commutator, 0)
    sigma2 = recorded.variance / recorded.shared - 1
    np.testing.assert_allclose(found.sigma2, np.median(sigma2[:, WEAK:], axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.gain, np.median(recorded.gain[:, WEAK:], axis=1))
    v = recorded.variance.astype(np.float64)
    np.testing.assert_allclose(found.lengths, v.sum(1) ** 2 / (v**2).sum(1))
    np.testing.assert_allclose(found.spread, np.log10(v[:, -1] / np.median(v, axis=1)), rtol=1e-5)
    p, c, v, tau = (
        x[1, WEAK:].astype(np.float64)
        for x in (recorded.predictor, recorded.shared, recorded.variance, recorded.gain)
    )
    cosine = (p @ (tau * c)) / np.sqrt((p**2 @ v) * (tau**2 @ v))
    assert found.loss[1] == pytest.approx(-2 * cosine)
    growth = np.median(recorded.shared[-1, WEAK:] / recorded.shared[0, WEAK:])
    assert found.growth[-1] == pytest.approx(growth, rel=1e-5)
    assert np.isnan(found.weight_spread).all()
    assert np.isnan(found.weight_growth).all()
    grams = np.array([[1.0, 1.0, 1.0, 10.0], [2.0, 2.0, 2.0, 200.0]])
    p = np.array([[0.0, 0.0, 1.0, 1.0]] * 2)
    one = dataclasses.replace(recordings([0, 1], p, np.ones((2, 4))), projector_gram=grams)
    np.testing.assert_allclose(theory.assumptions(one).weight_spread, [1, 2])
    np.testing.assert_allclose(theory.assumptions(one).weight_growth, [1, np.sqrt(40012 / 103)])


def practised(out, experiment, **changed):
    """A finished run of a grid with recordings: 390 steps are an epoch of the paper's scale."""
    result = fake_result(experiment, 80.0)
    write_fake_run(out / "runs" / experiment / "0", result)
    constants = Constants.from_config(Config(**result.config))
    steps = np.array([0, 100, 390, 2340, 4290])
    s = np.r_[np.full(10, 1e-8), np.logspace(-1, 0.5, 10)]
    p = np.sqrt(s)
    found = theory.solve_modes(p, s, constants.times(steps), constants, sigma2=0.3, loss="cosine")
    c = np.exp(-2 * constants.eta * constants.times_from_rest(steps))[:, None, None] * np.diag(np.arange(20))
    parts = c + np.eye(20), np.broadcast_to(np.eye(20), c.shape)
    recorded = recordings(steps, found.p, found.s, found.tau, 0.3, parts)
    dataclasses.replace(recorded, **changed).write(out / "runs" / experiment / "0")


def report_of(out):
    Report(out, collect(out), ["table1", "figure5"]).write()
    return (out / "REPORT.md").read_text()


def test_the_report_has_a_section_where_runs_have_recordings(tmp_path):
    write_fake_run(tmp_path / "runs" / "simsiam" / "0", fake_result("simsiam", 80.0))
    write_fake_run(tmp_path / "runs" / "directpred" / "0", fake_result("directpred", 80.0))
    assert "Theory beside practice" not in report_of(tmp_path)
    practised(tmp_path, "byol_symmetric")
    practised(tmp_path, "sgd")
    text = report_of(tmp_path).split("## Theory beside practice")[1]
    assert "| sgd | 0 to 4,290 | 0.3579 | 0.3579 | 0.00 % | 0.00 % |" in text
    assert "| sgd | 390 to 4,290 |" in text
    assert r"| byol_symmetric\* | 100 to 4,290 |" in text
    assert "| sgd | of F | 0.50 [0.50, 0.50] (n = 10) |" in text
    assert "| sgd | 10 | 1.00 | 1.00 | 1.00 | 1.00 |" in text
    assert "simsiam" not in text
    for name in ("conservation", "power_law", "predictions"):
        assert (tmp_path / "figures" / f"theory_{name}.png").stat().st_size > 10_000
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/svg+xml") == (tmp_path / "REPORT.md").read_text().count("![")


def test_unlabelled_images_count_in_the_steps_of_an_epoch(tmp_path):
    out = tmp_path
    practised(out, "sgd")
    (run,) = collect(out)
    more = dataclasses.replace(run.result, dataset={**run.result.dataset, "train": 1000, "unlabelled": 9000})
    found = practice.read(dataclasses.replace(run, result=more))
    assert found.steps == 10_000 // run.result.config["batch_size"]


def test_the_report_of_runs_that_the_theory_cannot_describe(tmp_path):
    """Expectations of a run on several devices do not exist, and neither do modes of a collapsed one."""
    unknown = np.full((5, 20), np.nan, np.float32)
    practised(tmp_path, "byol", variance=unknown, shared=unknown, gain=unknown)
    practised(tmp_path, "sgd", predictor=np.zeros((5, 20), np.float32))
    text = report_of(tmp_path).split("## Theory beside practice")[1]
    assert "| byol | shared by the views | too few modes (n = 0) |" in text
    assert "| sgd | of F | too few modes (n = 0) |" in text
    assert "Predicted" not in text


def test_the_figures_show_the_values(rng):
    constants = Constants(eta=0.01, dt=0.1)
    recorded = solved("cosine", constants, rng)
    found = theory.predict(recorded, constants)
    upper, lower = theory_plots.predictions({"a": found, "b": found}).axes[::2]
    np.testing.assert_allclose(upper.lines[0].get_ydata(), found.p[:, 0])
    np.testing.assert_allclose(lower.lines[1].get_ydata(), found.recorded_s[:, 0])
    assert upper.get_title("right") == f"skill {found.skill_p:.2f}"
    figure = theory_plots.power_law({"a": recorded}, {"a": 20})
    laws = [law for law in theory.power_laws(recorded) if law.known]
    drawn = figure.axes[1].containers
    assert [c.lines[0].get_ydata()[0] for c in drawn] == pytest.approx([law.slope for law in laws])
    kept = theory.conservation(networks(rng, Constants(eta=0.1)), Constants(eta=0.1))
    left, right = theory_plots.conservation({"a": kept}).axes
    np.testing.assert_allclose(left.lines[1].get_ydata(), kept.norm)
    np.testing.assert_allclose(right.lines[1].get_ydata(), 100 * kept.deviation[1:])


def recordings_of_linear_network(loss, scales, rng):
    """A linear network that this package trains on inputs with these standard deviations, [N]."""
    n, strong = len(scales), len(scales) // 2
    config = Config(method="sgd", loss=loss, learning_rate=0.02, momentum=0.0, weight_decay=0.02, tau=0.99)
    views = [view * np.float32(scales) for view in linear_networks.gaussian_views(rng, 200, (0.4, 0.4), n)]
    u = np.linalg.qr(rng.normal(size=(n, n)))[0]
    strength = np.r_[np.full(n - strong, 1e-3), np.sort(rng.uniform(0.3, 1.5, strong))]
    p = np.r_[np.full(n - strong, 1e-5), np.sort(rng.uniform(0.2, 0.8, strong))]
    found = linear_networks.train(
        config, *views, (u * strength) @ np.eye(n), (u * p) @ u.T, steps=600, every=100
    )
    moments = []
    for step, w_p, w, w_a in zip(
        range(0, 601, 100), found.predictor, found.weight, found.target, strict=True
    ):
        z1, z2, t1, t2 = (view @ matrix.T for matrix in (w, w_a) for view in views)
        correlation = (z1.T @ z1 + z2.T @ z2) / 400
        batch = {"z1": z1, "z2": z2, "t1": t1, "t2": t2}
        moments.append(Dynamics.measure(step, w_p, correlation, [batch], (w, w_p)))
    return sum(moments[1:], moments[0]), Constants.from_config(config)


@pytest.mark.parametrize("loss", ["euclidean", "cosine"])
def test_linear_networks_do_as_predicted_unless_their_inputs_are_not_white(loss, rng):
    white, constants = recordings_of_linear_network(loss, np.ones(20), rng)
    coloured, _ = recordings_of_linear_network(loss, np.geomspace(0.3, 3, 20), rng)
    for recorded in (white, coloured):
        kept = theory.conservation(recorded, constants)
        assert kept.deviation[-1] < 0.005
        assert kept.moved[-1] > 20 * kept.deviation[-1]
    predicted = theory.predict(white, constants, loss)
    assert min(predicted.skill_p, predicted.skill_s) > 0.98
    assert theory.predict(coloured, constants, loss).skill_s < 0.9
    found = theory.assumptions(white)
    np.testing.assert_allclose(found.spread, found.weight_spread, rtol=1e-4)
    found = theory.assumptions(coloured)
    assert found.spread.min() > found.weight_spread.max() + 0.1
