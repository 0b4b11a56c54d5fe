"""The siamese network: online network, target, predictor and F, and its training step."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from selfsup import augment, losses, monitor, predictors
from selfsup.applicable import check_components
from selfsup.augment import Augmentation
from selfsup.backend import replicas
from selfsup.backend.precision import full_precision
from selfsup.backend.settings import check_settings
from selfsup.config import Config
from selfsup.methods import LOSSES
from selfsup.networks.backbones import Backbone, check_images, check_inputs
from selfsup.networks.heads import PROJECTION
from selfsup.networks.siamese import build_networks
from selfsup.networks.softmax import OnlineProbe
from selfsup.networks.store import ImageStore
from selfsup.pixels import check_moments
from selfsup.saving import SavedModel
from selfsup.schedules import cosine_tau
from selfsup.utils.errors import InputError

Views: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]  # (images, seed) -> (view1, view2)


@keras.saving.register_keras_serializable("selfsup")
class SiameseModel(SavedModel):
    """Online network, target and predictor of any method, with one training step for all methods.

    `fit` takes uint8 images [N, H, W, 3] and makes the two views on the device. It also takes batches of two
    views, float32 [B, H, W, 3] each, and labels, int [N], for an online probe. Everything that changes during
    training is a variable of the model, including the step count that seeds the augmentation. So the same
    seed and weights give the same steps, and `save` and `load_model` keep the whole state, except for the
    random state of layers such as Dropout. `evaluate` and `predict` draw the same numbers for every batch.

    Attributes:
        backbone, projector: the online network, with outputs h [B, D] and z [B, 128].
        target_backbone, target_projector: their moving average, or None without EMA.
        predictor: W_p, one linear layer or an MLP.
        correlation: F, float32 [128, 128].
        steps: completed training steps, int32.
        online_probe: a linear classifier on h that learns in the same steps and does not change them, or
            None. Its accuracy is the metric `online_linear`.
        rank_every: steps between two samples of the effective rank, at most the steps of an epoch. The
            metrics `loss`, `embedding_std` and `effective_rank` are means over an epoch; in `evaluate`, the
            effective rank is NaN.

    Example:
        >>> images = keras.random.randint((64, 32, 32, 3), 0, 256, dtype="uint8")
        >>> model = SiameseModel(Config(method="byol", width=2))
        >>> model.compile()
        >>> history = model.fit(images, batch_size=32, verbose=0)
    """

    rank_every = 10

    def __init__(
        self,
        config: Config,
        images: np.ndarray | None = None,
        mean: Sequence[float] = augment.CIFAR10_MEAN,
        std: Sequence[float] = augment.CIFAR10_STD,
        *,
        backbone: Backbone | None = None,
        augmentation: Views | None = None,
        loss: losses.Loss | None = None,
        classes: int | None = None,
        steps_per_epoch: int | None = None,
        name: str = "siamese",
    ) -> None:
        """Builds all weights.

        Args:
            config: the method, and the settings of the networks and of W_p.
            images: uint8 [N, H, W, 3] to keep on the device; `fit` then takes indices into them.
            mean, std: per channel, in [0, 1], to normalise the views by; by default CIFAR-10's.
            backbone: a functional `keras.Model` from views [B, S, S, 3] to features [B, D], or a function
                that returns one; by default ResNet-18 of the config's width.
            augmentation: an `Augmentation`, or a function `(images, seed) -> (view1, view2)` of
                `keras.ops`; by default the config's.
            loss: a function `(p1, p2, t1, t2) -> scalar` of `keras.ops`, instead of the config's; see
                `losses.of_outputs`.
            classes: number of classes for an online probe; `fit` then needs labels, negative where unknown.
            steps_per_epoch: training steps per epoch, for a schedule of the config.
            name: name of the model.

        Raises:
            InputError: the backbone, loss, mean or std does not have this form, Keras has other global
                settings, or a schedule lacks `steps_per_epoch`.
        """
        check_settings()
        check_components(config, augmentation, loss)
        if config.resolved.scheduled and not steps_per_epoch:
            raise InputError("steps_per_epoch is missing; the schedule of the config needs it")
        check_moments(mean, std)
        super().__init__(name=name)
        self.config, self.resolved, self.mean, self.std = config, config.resolved, tuple(mean), tuple(std)
        self.rule = predictors.rule_of(self.resolved)
        self.store = None if images is None else ImageStore(images)
        self.augmentation = augmentation or Augmentation(**self.resolved.augmentation)
        if isinstance(self.augmentation, Augmentation):
            self.augmentation = self.augmentation.normalised_by(self.mean, self.std)
        self.pair_loss = losses.of_outputs(loss or getattr(losses, LOSSES[config.loss].function))
        self.classes, self.steps_per_epoch = classes, steps_per_epoch
        self._given, self._default_backbone = {"augmentation": augmentation, "loss": loss}, backbone is None
        networks = build_networks(config, backbone)
        self.backbone, self.projector = networks.backbone, networks.projector
        self.target_backbone, self.target_projector = networks.target_backbone, networks.target_projector
        self.predictor = networks.predictor
        self.correlation = self.add_weight(
            shape=(PROJECTION, PROJECTION), initializer="zeros", trainable=False, name="correlation"
        )
        self.steps = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False, name="steps"
        )
        self.online_probe = None if classes is None else OnlineProbe(self.backbone.output_shape[-1], classes)
        self.embedding_std = monitor.SampleMean(name="embedding_std")
        self.effective_rank = monitor.SampleMean(name="effective_rank")
        self.built = True

    @property
    def predictor_kernels(self) -> list[keras.Variable]:
        """The kernels of the predictor's Dense layers in order. A kernel is the transpose of a weight."""
        return [layer.kernel for layer in self.predictor.layers if isinstance(layer, keras.layers.Dense)]

    def predictor_weight(self) -> np.ndarray:
        """Returns W_p as a weight, float32 [128, 128], that acts on columns; W2 W1 for two layers."""
        kernels = [ops.convert_to_numpy(kernel) for kernel in self.predictor_kernels]
        return np.linalg.multi_dot(kernels).T if len(kernels) > 1 else kernels[0].T

    def views(self, batch: Any) -> tuple[Any, Any]:
        """Returns two views, float32 [B, H, W, 3], of uint8 images or of indices [B] into the stored ones.

        Raises:
            InputError: the images have another dtype or shape.
        """
        images = batch if self.store is None else self.store(batch)
        check_images(images, self.backbone)
        seed = [self.config.seed, self.steps.value]
        if isinstance(self.augmentation, Augmentation):
            return self.augmentation(images, seed, replicas.index(), replicas.count())
        return self.augmentation(images, ops.stack([seed[0] + replicas.index(), seed[1]]))

    def check_inputs(self, inputs: Any) -> None:
        check_inputs(inputs, self.backbone, stored=self.store is not None)

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Computes features h, projections z, predictions p and target projections t of both views.

        Args:
            inputs: two views, float32 [B, H, W, 3] each, or a batch for `views`.
            training: whether batch norm uses the statistics of the batch, separately for each view.

        Returns:
            A dict of h1 and h2, [B, D], and of z1, z2, p1, p2, t1 and t2, float32 [B, 128]. Without EMA t is
            z: the same values as those of a target that equals the online network, for a quarter less work.
        """
        self.check_inputs(inputs)
        view1, view2 = inputs if isinstance(inputs, (tuple, list)) else self.views(inputs)

        def project(view: Any, backbone: keras.Model, projector: keras.Model) -> tuple[Any, Any]:
            h = backbone(view, training=training)
            return h, ops.cast(projector(h, training=training), "float32")

        (h1, z1), (h2, z2) = (project(view, self.backbone, self.projector) for view in (view1, view2))
        t1, t2 = z1, z2
        if self.target_backbone is not None:
            t1, t2 = (project(v, self.target_backbone, self.target_projector)[1] for v in (view1, view2))
        with full_precision():
            p1, p2 = (self.predictor(z, training=training) for z in (z1, z2))
        return {"h1": h1, "h2": h2, "z1": z1, "z2": z2, "p1": p1, "p2": p2, "t1": t1, "t2": t2}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Computes the loss of the dict `y_pred` from `call`; while training it also updates F and `steps`.

        The online probe learns from the labels `y`, int [B]. The losses of the backbone's layers are added.

        If several devices share the batch, F and the metrics are those of the whole batch. The loss is
        divided by the number of devices because their gradients are summed.

        Raises:
            InputError: there are no labels for the online probe, or a sample_weight or class_weight is given.
        """
        if sample_weight is not None:
            raise InputError("neither sample_weight nor class_weight is supported; leave them out")
        views = y_pred["h1"], y_pred["h2"]
        z1, z2 = (replicas.gather(ops.stop_gradient(y_pred[name])) for name in ("z1", "z2"))
        self.embedding_std.update_state(monitor.embedding_std(z1, z2))
        if training:
            self._update_correlation(predictors.correlation(z1, z2))
            self.steps.assign_add(1)
            if self.online_probe:
                self.online_probe.learn(views, y, self.steps)
        elif self.online_probe and y is not None:
            self.online_probe.score(views, y)
        return (self.pair_loss(y_pred) + sum(self.losses)) / replicas.count()

    @property
    def losses(self) -> list[Any]:
        """Losses of the backbone's layers, without the target's; on JAX, those of activities in view 2."""
        return self._losses_override or self.backbone.losses

    def _update_correlation(self, new: Any) -> None:
        """Updates F, and its effective rank only every few steps, because that needs an `eigh`."""
        first, due = ops.equal(self.steps, 0), ops.equal(ops.mod(self.steps, self.rank_every), 0)
        correlation = predictors.moving_average(self.correlation, new, self.resolved.rho, first)
        rank = ops.cond(due, lambda: monitor.effective_rank(correlation), lambda: ops.zeros(()))
        self.effective_rank.update_state(rank, sample_weight=ops.cast(due, "float32"))
        self.correlation.assign(correlation)

    def after_step(self) -> None:
        """Sets W_p by the rule or symmetrises it, then updates the target."""
        self.set_predictor()
        if self.config.symmetric:
            values = predictors.symmetrize(*self.predictor_kernels)
            values = values if isinstance(values, tuple) else (values,)
            for kernel, value in zip(self.predictor_kernels, values, strict=True):
                kernel.assign(value)
        self.update_target()

    def update_target(self) -> None:
        """Sets all weights of the target, if there is one, to tau * target + (1 - tau) * online."""
        if self.target_backbone is None or self.target_projector is None:
            return
        tau = self.resolved.tau
        if self.config.tau_schedule == "cosine" and self.steps_per_epoch:
            tau = cosine_tau(tau, self.steps - 1, self.config.epochs * self.steps_per_epoch)
        targets = (*self.target_backbone.weights, *self.target_projector.weights)
        onlines = (*self.backbone.weights, *self.projector.weights)
        for target, online in zip(targets, onlines, strict=True):
            target.assign(tau * target + (1.0 - tau) * online)

    @full_precision()
    def set_predictor(self) -> None:
        """Sets W_p by the method's rule, if it has one, after steps 1, freq + 1, 2 freq + 1, ..."""
        if (rule := self.rule) is None:
            return
        (kernel,) = self.predictor_kernels

        def new_kernel() -> Any:
            return ops.transpose(rule(ops.convert_to_tensor(self.correlation)))

        if self.resolved.freq == 1:
            kernel.assign(new_kernel())
        else:
            due = ops.equal(ops.mod(self.steps - 1, self.resolved.freq), 0)
            kernel.assign(ops.cond(due, new_kernel, lambda: ops.convert_to_tensor(kernel)))
