"""Linear siamese networks on Gaussian data, trained by this package's losses, optimizer, EMA and rules.

They are small enough to be compared with the equations of `selfsup.theory` to any precision, and they show
how the losses differ (Halvagal et al. 2023, arXiv:2212.04858). This module needs Keras.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from selfsup import losses, predictors
from selfsup.analysis.theory.constants import Array, Constants
from selfsup.analysis.theory.matrices import Networks
from selfsup.backend.step import StepModel
from selfsup.config import Config
from selfsup.methods import LOSSES
from selfsup.networks.heads import mlp
from selfsup.networks.siamese import PREDICTOR
from selfsup.optimizers import from_config
from selfsup.utils.errors import InputError

Rule = Callable[[Any], Any]


def gaussian_views(
    rng: np.random.Generator, count: int, noises: tuple[float, float], inputs: int
) -> tuple[Array, Array]:
    """Returns two views of Gaussian inputs x ~ N(0, I), each with its own noise.

    Inputs and noises are made uncorrelated, so that the covariances are exactly those of the population.

    Args:
        rng: source of randomness.
        count: number of inputs, at least three times their dimension.
        noises: standard deviation of each view's noise.
        inputs: dimension of the inputs.

    Returns:
        The views, float32 [count, inputs] each.

    Example:
        >>> view1, view2 = gaussian_views(np.random.default_rng(0), 90, noises=(0.0, 0.5), inputs=3)
        >>> bool(np.allclose(view2.T @ view2 / 90, 1.25 * np.eye(3), atol=1e-5))
        True
    """
    parts, _ = np.linalg.qr(rng.normal(size=(count, 3 * inputs)))
    shared, *own = np.split(np.sqrt(count) * parts, 3, axis=1)
    view1, view2 = (shared + noise * part for noise, part in zip(noises, own, strict=True))
    return view1.astype(np.float32), view2.astype(np.float32)


def covariances(view1: Array, view2: Array) -> tuple[Array, Array]:
    """Returns X and X' of two views, as means over both directions (see `theory.network_rates`).

    Args:
        view1, view2: [B, N].

    Returns:
        float64 [N, N] each.

    Example:
        >>> shared, between = covariances(np.array([[2.0]]), np.array([[1.0]]))
        >>> shared.tolist(), between.tolist()
        ([[2.0]], [[0.5]])
    """
    x1, x2 = np.asarray(view1, np.float64), np.asarray(view2, np.float64)
    shared = (x1.T @ x2 + x2.T @ x1) / (2 * len(x1))
    return shared, (x1.T @ x1 + x2.T @ x2) / (2 * len(x1)) - shared


class LinearSiamese(StepModel):
    """A linear online network z = W x, predictor W_p z and target W_a x, trained as `SiameseModel` is.

    Args:
        config: method, loss, EMA, symmetry and rates. W_p has one layer, whatever the method.
        weight, predictor: start values W [D, N] and W_p [D, D]; the target starts as a copy of W.
        rule: from F to W_p; None for the method's.
        loss: see `SiameseModel`; None for the config's.

    Raises:
        InputError: the config sets W_p only every few steps, or has a schedule.
    """

    def __init__(
        self,
        config: Config,
        weight: Array,
        predictor: Array,
        rule: Rule | None = None,
        loss: losses.Loss | None = None,
    ) -> None:
        super().__init__(name="linear_siamese")
        if config.resolved.freq > 1 or config.resolved.scheduled:
            raise InputError("a linear network has freq=1 and no schedules; drop them from the config")
        self.config, self.resolved = config, config.resolved
        self.rule = rule or predictors.rule_of(self.resolved)
        self.pair_loss = losses.of_outputs(loss or getattr(losses, LOSSES[config.loss].function))
        outputs, inputs = weight.shape
        self.projector = mlp(inputs, 1, "projector", output=outputs)
        self.target = mlp(inputs, 1, "target_projector", output=outputs) if self.resolved.ema else None
        self.predictor = mlp(outputs, 1, PREDICTOR, output=outputs)
        for network, value in ((self.projector, weight), (self.target, weight), (self.predictor, predictor)):
            if network is not None:
                network.set_weights([value.T])
        for frozen in (self.target, None if self.rule is None else self.predictor):
            if frozen is not None:
                frozen.trainable = False
        self.correlation = self.add_weight(
            shape=(outputs, outputs), initializer="zeros", trainable=False, name="correlation"
        )
        self.started = self.add_weight(shape=(), initializer="zeros", trainable=False, name="started")
        self.built = True

    def call(self, inputs: tuple[Any, Any], training: bool = False) -> dict[str, Any]:
        """Returns z1, z2, p1, p2, t1 and t2 of two views [B, N], [B, D] each."""
        z1, z2 = (self.projector(view) for view in inputs)
        t1, t2 = (z1, z2) if self.target is None else (self.target(view) for view in inputs)
        return {"z1": z1, "z2": z2, "p1": self.predictor(z1), "p2": self.predictor(z2), "t1": t1, "t2": t2}

    def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Updates F and returns the loss."""
        new = predictors.correlation(y_pred["z1"], y_pred["z2"])
        first = ops.equal(self.started, 0)
        self.correlation.assign(predictors.moving_average(self.correlation, new, self.resolved.rho, first))
        self.started.assign(1.0)
        return self.pair_loss(y_pred)

    def after_step(self) -> None:
        """Sets or symmetrises W_p, then updates the target."""
        (kernel,) = self.predictor.weights
        if self.rule is not None:
            kernel.assign(ops.transpose(self.rule(ops.convert_to_tensor(self.correlation))))
        elif self.config.symmetric:
            kernel.assign(predictors.symmetrize(kernel))
        if self.target is not None:
            target, online = self.target.weights[0], self.projector.weights[0]
            target.assign(predictors.moving_average(target, online, self.resolved.tau, False))

    def matrices(self) -> list[Array]:
        """Returns W_p, W and W_a as weights, which act on columns."""
        target = self.projector if self.target is None else self.target
        networks = (self.predictor, self.projector, target)
        return [ops.convert_to_numpy(network.weights[0]).T for network in networks]


def train(
    config: Config,
    view1: Array,
    view2: Array,
    weight: Array,
    predictor: Array,
    steps: int,
    every: int = 1,
    rule: Rule | None = None,
    loss: losses.Loss | None = None,
) -> Networks:
    """Trains a linear network on the same two views in every step.

    Args:
        config, weight, predictor, rule, loss: see `LinearSiamese`.
        view1, view2: [B, N].
        steps: number of training steps.
        every: steps between two recorded moments.

    Returns:
        The start and every `every` steps, with the times of `theory.Constants.from_config`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> views = gaussian_views(rng, 100, (0.1, 0.1), inputs=3)
        >>> config = Config(method="sgd", loss="euclidean", learning_rate=0.1)
        >>> found = train(config, *views, rng.normal(size=(2, 3)), np.eye(2), steps=4, every=2)
        >>> found.weight.shape, found.times.round(6).tolist()
        ((3, 2, 3), [0.0, 2.0, 4.0])
    """
    model = LinearSiamese(config, weight, predictor, rule, loss)
    model.compile(optimizer=from_config(config), jit_compile=False)
    batch = tuple(ops.convert_to_tensor(view) for view in (view1, view2))
    moments = [model.matrices()]
    for step in range(1, steps + 1):
        model.train_on_batch(batch)
        if step % every == 0:
            moments.append(model.matrices())
    times = Constants.from_config(config).times(every * np.arange(len(moments)))
    return Networks(times, *(np.stack(group).astype(np.float64) for group in zip(*moments, strict=True)))


@dataclass(frozen=True)
class Toy:
    """A setting of Halvagal et al. 2023, figures 2, 5 and 6: a loss of one direction, and a learning rate."""

    loss: losses.Loss
    learning_rate: float


def _without_stop_gradient(p1: Any, p2: Any, t1: Any, t2: Any, *, z2: Any) -> Any:
    return losses.symmetric_euclidean(p1, p1, t2, t2) + losses.symmetric_euclidean(z2, z2, p1, p1)


TOYS: Mapping[str, Toy] = {
    "euclidean": Toy(lambda p1, p2, t1, t2: losses.symmetric_euclidean(p1, p1, t2, t2), 0.01),
    "no_stop_gradient": Toy(_without_stop_gradient, 0.01),
    "cosine": Toy(lambda p1, p2, t1, t2: losses.symmetric_negative_cosine(p1, p1, t2, t2) / 2, 0.1),
    "isoloss": Toy(lambda p1, p2, t1, t2, *, z1: losses.isoloss(p1, p1, t2, t2, z1=z1, z2=z1) / 2, 0.1),
}
"""The toy experiments by name. Only view 2 has noise, and only view 1 is predicted, so that the losses, which
are sums or means over both directions, get the same direction twice."""


def toy(setting: str, steps: int = 1500, every: int = 50, seed: int = 0, count: int = 4000) -> Array:
    """Trains a toy network of Halvagal et al. 2023: 15 inputs, 10 outputs, noise 0.1, W_p = F.

    With the Euclidean loss, all eigenvalues of F become 1; without the stop-gradient, they shrink. With the
    cosine, they become equal and their sum stays; with IsoLoss, they also become equal, and grow.

    Args:
        setting: a name in `TOYS`.
        steps, every: steps, and steps between two recorded moments.
        seed: of the weights and the views.
        count: number of inputs; the published code draws 50,000 new ones in each step.

    Returns:
        The eigenvalues of F, ascending, float64 [1 + steps / every, 10].
    """
    rng = np.random.default_rng(seed)
    views = gaussian_views(rng, count, (0.0, 0.1), inputs=15)
    weight = rng.normal(size=(10, 15)) / 4.0
    config = Config(
        method="directcopy", ema=False, rho=0.0, momentum=0.0, weight_decay=0.0,
        learning_rate=TOYS[setting].learning_rate,
    )  # fmt: skip
    total = sum(covariances(*views))
    start = weight @ total @ weight.T
    found = train(config, *views, weight, start, steps, every, rule=lambda f: f, loss=TOYS[setting].loss)
    return np.linalg.eigvalsh(found.weight @ total @ found.weight.mT)
