"""The siamese network: online, target, predictor, F, and what happens in a step."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from selfsup import augment, losses, monitor, predictors
from selfsup.backend import replicas
from selfsup.backend.devices import jit_compile, resolve_precision
from selfsup.backend.precision import full_precision
from selfsup.config import METHODS, Config
from selfsup.networks.heads import PROJECTION, mlp
from selfsup.networks.resnet import BN_MOMENTUM, resnet18
from selfsup.optimizers import PREDICTOR, from_config


class ImageStore(keras.layers.Layer):
    """Images kept on the device as uint8 [N, H, W, 3]; called with indices [B] it gives a batch.

    The images are a variable, so that no step waits for the host, but no part of the saved model.
    """

    def __init__(self, images: np.ndarray) -> None:
        super().__init__(name="images", trainable=False)
        self.images = self.add_weight(
            shape=images.shape,
            dtype="uint8",
            initializer=lambda *_, **__: ops.convert_to_tensor(images),
            trainable=False,
            name="images",
        )
        self.built = True

    def call(self, indices: Any) -> Any:
        return ops.take(self.images, indices, axis=0)

    def save_own_variables(self, store: Any) -> None:
        """Saves nothing: the images are data."""

    def load_own_variables(self, store: Any) -> None:
        """Loads nothing."""


class SiameseModel(keras.Model):
    """Online network, target and predictor of a method, trained by one step for all methods.

    `fit` takes uint8 images [N, H, W, 3] and makes the two views itself, on the device; called, the model
    also takes a pair of views, float32 [B, H, W, 3]. Everything that changes in training is a variable
    of the model, the step count that seeds the augmentation included: the same seed and the same weights
    give the same steps.

    Attributes:
        backbone, projector: the online network; h [B, 8 * width], z [B, 128].
        target_backbone, target_projector: their moving average, or None without EMA.
        predictor: W_p, one linear layer or an MLP.
        correlation: F, float32 [128, 128].
        steps: steps done, int32.
        rank_every: steps between two samples of the effective rank; at most the steps of an epoch, whose
            metrics `loss`, `embedding_std` and `effective_rank` are means.
    """

    rank_every = 10

    def __init__(
        self,
        config: Config,
        images: np.ndarray | None = None,
        mean: Sequence[float] = augment.CIFAR10_MEAN,
        std: Sequence[float] = augment.CIFAR10_STD,
        stock: bool = False,
        name: str = "siamese",
    ) -> None:
        """Builds all weights.

        Args:
            config: what the networks are and how W_p is made.
            images: uint8 [N, H, W, 3] to keep on the device; `fit` then takes indices into them.
            mean, std: per channel, for the views.
            stock: whether all layers are Keras' own; same weights, slower.
            name: name of the model.
        """
        super().__init__(name=name)
        self.config = config
        self.mean, self.std = tuple(mean), tuple(std)
        self.method = METHODS[config.method]
        self.store = None if images is None else ImageStore(images)
        dtype = resolve_precision(config.precision)
        common = {"stock": stock, "bn_synchronized": replicas.count() > 1 and config.bn_groups == 1}

        def encoder(prefix: str, bn_momentum: float) -> tuple[keras.Model, keras.Model]:
            own = {**common, "dtype": dtype, "bn_momentum": bn_momentum}
            backbone = resnet18(config.width, name=f"{prefix}backbone", **own)
            features = backbone.output_shape[-1]
            return backbone, mlp(features, config.projector_layers, name=f"{prefix}projector", **own)

        self.backbone, self.projector = encoder("", BN_MOMENTUM)
        self.target_backbone = self.target_projector = None
        if config.ema:
            # At momentum 1 the target's own passes leave its BN statistics alone: the EMA averages them.
            self.target_backbone, self.target_projector = encoder("target_", 1.0)
            self._freeze(self.target_backbone, self.target_projector)
            for target, online in self._target_pairs():
                target.assign(ops.convert_to_numpy(online))  # a buffer of its own
        self.predictor = mlp(PROJECTION, self.method.predictor_layers, PREDICTOR, **common)
        if not config.trains_predictor:
            self._freeze(self.predictor)
        self.correlation = self.add_weight(
            shape=(PROJECTION, PROJECTION), initializer="zeros", trainable=False, name="correlation"
        )
        self.steps = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False, name="steps"
        )
        self.embedding_std = keras.metrics.Mean(name="embedding_std")
        self.effective_rank = keras.metrics.Mean(name="effective_rank")
        self.built = True

    def compile(self, optimizer: Any = None, **kwargs: Any) -> None:
        """As `keras.Model.compile`; by default with the config's optimizer, and XLA where it is faster."""
        kwargs.setdefault("jit_compile", jit_compile())
        super().compile(optimizer or from_config(self.config), **kwargs)
        self.optimizer.build(self.trainable_variables)

    @staticmethod
    def _freeze(*models: keras.Model) -> None:
        """No gradients, but batch statistics: `model.trainable = False` would switch BN to inference."""
        for model in models:
            for variable in model.trainable_variables:
                variable.trainable = False

    def _target_pairs(self) -> list[tuple[keras.Variable, keras.Variable]]:
        targets = (*self.target_backbone.weights, *self.target_projector.weights)
        return list(zip(targets, (*self.backbone.weights, *self.projector.weights), strict=True))

    @property
    def predictor_kernels(self) -> list[keras.Variable]:
        """Kernels of W_p's linear part, first layer first. A kernel is the transpose of its matrix."""
        return [layer.kernel for layer in self.predictor.layers if isinstance(layer, keras.layers.Dense)]

    def predictor_weight(self) -> np.ndarray:
        """W_p as a matrix that acts on columns, [128, 128]; of two layers their product W2 W1."""
        kernels = [ops.convert_to_numpy(kernel) for kernel in self.predictor_kernels]
        return np.linalg.multi_dot(kernels).T if len(kernels) > 1 else kernels[0].T

    def views(self, batch: Any) -> tuple[Any, Any]:
        """Two views of uint8 images [B, H, W, 3], or of the stored ones with the indices [B]."""
        images = batch if self.store is None else self.store(batch)
        seed = [self.config.seed, self.steps.value]
        return augment.two_views(images, seed, self.mean, self.std, replicas.index(), replicas.count())

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Projections z, predictions p and targets t of both views.

        Args:
            inputs: a pair of views, float32 [B, H, W, 3] each, or a batch for `views`.
            training: whether batch norms use the statistics of the batch (of each view apart).

        Returns:
            z1, z2, p1, p2, t1, t2 by name, float32 [B, 128]. Without EMA t is z: the same numbers as a
            target network that is set to the online one after each step, for a quarter less work.
        """
        view1, view2 = inputs if isinstance(inputs, (tuple, list)) else self.views(inputs)

        def project(view: Any, backbone: keras.Model, projector: keras.Model) -> Any:
            return ops.cast(projector(backbone(view, training=training), training=training), "float32")

        z1, z2 = (project(view, self.backbone, self.projector) for view in (view1, view2))
        t1, t2 = z1, z2
        if self.target_backbone is not None:
            t1, t2 = (project(v, self.target_backbone, self.target_projector) for v in (view1, view2))
        p1, p2 = (self.predictor(z, training=training) for z in (z1, z2))
        return {"z1": z1, "z2": z2, "p1": p1, "p2": p2, "t1": t1, "t2": t2}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The symmetric negative cosine; when training it also takes the batch into F and counts the step.

        Where devices share the batch, F and the metrics are of the whole batch, and the loss is this
        device's share of it: the devices' gradients are summed.
        """
        if training:
            z1, z2 = (replicas.gather(ops.stop_gradient(y_pred[name])) for name in ("z1", "z2"))
            new = predictors.correlation(z1, z2)
            first = ops.equal(self.steps, 0)
            correlation = predictors.moving_average(self.correlation, new, self.config.rho, first)
            self._watch(z1, z2, correlation)
            self.correlation.assign(correlation)
            self.steps.assign_add(1)
        loss = losses.symmetric_negative_cosine(*(y_pred[name] for name in ("p1", "p2", "t1", "t2")))
        return loss / replicas.count()

    def _watch(self, z1: Any, z2: Any, correlation: Any) -> None:
        """Takes the step into the metrics; the effective rank, which costs an `eigh`, every few steps."""
        due = ops.equal(ops.mod(self.steps, self.rank_every), 0)
        rank = ops.cond(due, lambda: monitor.effective_rank(correlation), lambda: ops.zeros(()))
        self.embedding_std.update_state(monitor.embedding_std(z1, z2))
        self.effective_rank.update_state(rank, sample_weight=ops.cast(due, "float32"))

    def train_step(self, *args: Any) -> Any:
        """The backend's own step, then the predictor's rule and the target's moving average."""
        if keras.backend.backend() != "jax":
            logs = super().train_step(*args)
            self._after_step()
            return logs
        logs, (trainable, non_trainable, *rest) = super().train_step(*args)
        variables = (*self.trainable_variables, *self.non_trainable_variables)
        values = (*trainable, *non_trainable)
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))) as scope:
            self._after_step()
        trainable = [scope.get_current_value(v) for v in self.trainable_variables]
        non_trainable = [scope.get_current_value(v) for v in self.non_trainable_variables]
        return logs, (trainable, non_trainable, *rest)

    def _after_step(self) -> None:
        if self.method.rule:
            self.set_predictor()
        if self.config.symmetric:
            for kernel, value in zip(
                self.predictor_kernels, _as_tuple(predictors.symmetrize(*self.predictor_kernels)), strict=True
            ):
                kernel.assign(value)
        if self.target_backbone is not None:
            self.update_target()

    def update_target(self) -> None:
        """The target's weights become tau * target + (1 - tau) * online, all of them."""
        tau = self.config.tau
        for target, online in self._target_pairs():
            target.assign(tau * target + (1.0 - tau) * online)

    @full_precision()
    def set_predictor(self) -> None:
        """W_p from F by the method's rule, after the first step and every `freq` from there."""
        rule = self.method.rule if callable(self.method.rule) else getattr(predictors, self.method.rule)
        options = {name: getattr(self.config, name) for name in self.method.rule_options}
        (kernel,) = self.predictor_kernels

        def ruled() -> Any:
            return ops.transpose(rule(ops.convert_to_tensor(self.correlation), **options))

        if self.config.freq == 1:
            kernel.assign(ruled())
        else:
            due = ops.equal(ops.mod(self.steps - 1, self.config.freq), 0)
            kernel.assign(ops.cond(due, ruled, lambda: ops.convert_to_tensor(kernel)))


def _as_tuple(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)
