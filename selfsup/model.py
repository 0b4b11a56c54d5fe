"""The siamese network: online, target, predictor, F, and what happens in a step."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from selfsup import augment, losses, monitor, predictors
from selfsup.augment import Augmentation
from selfsup.backend import replicas
from selfsup.backend.devices import jit_compile
from selfsup.backend.precision import full_precision
from selfsup.backend.step import StepModel
from selfsup.config import METHODS, Config
from selfsup.networks.backbones import Backbone
from selfsup.networks.heads import PROJECTION
from selfsup.networks.siamese import build_networks
from selfsup.networks.store import ImageStore
from selfsup.optimizers import from_config
from selfsup.utils.errors import InputError

Views = Callable[[Any, Any], tuple[Any, Any]]
"""An augmentation: images [B, H, W, 3] and an int32 [2] seed -> two views [B, S, S, 3]."""
Loss = Callable[[Any, Any, Any, Any], Any]
"""A loss: p1, p2, t1, t2, each float32 [B, 128] -> a scalar."""


@keras.saving.register_keras_serializable("selfsup")
class SiameseModel(StepModel):
    """Online network, target and predictor of a method, trained by one step for all methods.

    `fit` takes uint8 images [N, H, W, 3] and makes the two views itself, on the device. It also takes
    batches of a pair of views, float32 [B, H, W, 3] each. Everything that changes in training is a variable
    of the model, the step count that seeds the augmentation included: the same seed and the same weights
    give the same steps, and `save` and `load_model` keep all of it.

    Attributes:
        backbone, projector: the online network; h [B, D], z [B, 128].
        target_backbone, target_projector: their moving average, or None without EMA.
        predictor: W_p, one linear layer or an MLP.
        correlation: F, float32 [128, 128].
        steps: steps done, int32.
        rank_every: steps between two samples of the effective rank; at most the steps of an epoch, over
            which the metrics `loss`, `embedding_std` and `effective_rank` are means.

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
        loss: Loss | None = None,
        name: str = "siamese",
    ) -> None:
        """Builds all weights.

        Args:
            config: the method, the networks and how W_p is made.
            images: uint8 [N, H, W, 3] to keep on the device; `fit` then takes indices into them.
            mean, std: per channel, in [0, 1], for the views.
            backbone: a functional `keras.Model` from views [B, S, S, 3] to features [B, D], or a function
                that makes one; default ResNet-18 of the config's width.
            augmentation: an `Augmentation`, or any function `(images, seed) -> (view1, view2)` of
                `keras.ops`; default the paper's.
            loss: any function `(p1, p2, t1, t2) -> scalar` of `keras.ops`; no gradient passes through t1
                and t2. Default the symmetric negative cosine.
            name: name of the model.

        Raises:
            InputError: the backbone is not of this form.
        """
        super().__init__(name=name)
        self.config, self.resolved = config, config.resolved
        self.mean, self.std = tuple(mean), tuple(std)
        self.method = METHODS[self.resolved.method]
        self.store = None if images is None else ImageStore(images)
        self.augmentation = augmentation or Augmentation()
        if isinstance(self.augmentation, Augmentation):
            self.augmentation = self.augmentation.normalised_by(self.mean, self.std)
        self.pair_loss = loss or losses.symmetric_negative_cosine
        self._swapped = {"augmentation": augmentation, "loss": loss}
        self._own_backbone = backbone is None
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
        self.embedding_std = monitor.SampleMean(name="embedding_std")
        self.effective_rank = monitor.SampleMean(name="effective_rank")
        self.built = True

    def compile(self, optimizer: Any = None, loss: Any = None, **kwargs: Any) -> None:
        """As `keras.Model.compile`; by default with the config's optimizer, and XLA where it is faster.

        Raises:
            InputError: a loss is given, which belongs into the constructor.
        """
        if loss is not None or kwargs.get("loss_weights") is not None:
            raise InputError("compile takes no loss: give it to SiameseModel(config, loss=...)")
        kwargs.setdefault("jit_compile", jit_compile())
        super().compile(optimizer or from_config(self.config), **kwargs)
        self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as before saving, with the optimizer's state."""
        arguments = keras.saving.deserialize_keras_object(config)
        self.compile(**{name: value for name, value in arguments.items() if value is not None})

    def get_config(self) -> dict[str, Any]:
        """What `keras.models.load_model` builds the model from; functions must be registered with Keras."""
        parts = {name: part for name, part in self._swapped.items() if part is not None}
        if not self._own_backbone:
            parts["backbone"] = self.backbone
        own = {"config": self.config.to_dict(), "mean": self.mean, "std": self.std, "name": self.name}
        return own | {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "SiameseModel":
        """The inverse of `get_config`."""
        config = {**config, "config": Config(**config["config"])}
        for name in {"backbone", "augmentation", "loss"} & config.keys():
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)

    @property
    def predictor_kernels(self) -> list[keras.Variable]:
        """Kernels of W_p's linear part, first layer first. A kernel is the transpose of its matrix."""
        return [layer.kernel for layer in self.predictor.layers if isinstance(layer, keras.layers.Dense)]

    def predictor_weight(self) -> np.ndarray:
        """W_p as a matrix that acts on columns, [128, 128]; of two layers their product W2 W1."""
        kernels = [ops.convert_to_numpy(kernel) for kernel in self.predictor_kernels]
        return np.linalg.multi_dot(kernels).T if len(kernels) > 1 else kernels[0].T

    def views(self, batch: Any) -> tuple[Any, Any]:
        """Two views of uint8 images [B, H, W, 3], or of the stored ones with the indices [B].

        Raises:
            InputError: the images are not uint8.
        """
        images = batch if self.store is None else self.store(batch)
        dtype = keras.backend.standardize_dtype(images.dtype)
        if dtype != "uint8" or len(images.shape) != 4:
            raise InputError(
                f"images must be uint8 [B, H, W, 3], not {dtype} {list(images.shape)}; "
                "batches of ready views are pairs (view1, view2)"
            )
        seed = [self.config.seed, self.steps.value]
        if isinstance(self.augmentation, Augmentation):
            return self.augmentation(images, seed, replicas.index(), replicas.count())
        return self.augmentation(images, ops.stack([seed[0] + replicas.index(), seed[1]]))

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
            correlation = predictors.moving_average(self.correlation, new, self.resolved.rho, first)
            self._watch(z1, z2, correlation)
            self.correlation.assign(correlation)
            self.steps.assign_add(1)
        predictions, targets = ([y_pred[f"{kind}{view}"] for view in (1, 2)] for kind in "pt")
        loss = self.pair_loss(*predictions, *map(ops.stop_gradient, targets))
        return loss / replicas.count()

    def _watch(self, z1: Any, z2: Any, correlation: Any) -> None:
        """Takes the step into the metrics; the effective rank, which costs an `eigh`, every few steps."""
        due = ops.equal(ops.mod(self.steps, self.rank_every), 0)
        rank = ops.cond(due, lambda: monitor.effective_rank(correlation), lambda: ops.zeros(()))
        self.embedding_std.update_state(monitor.embedding_std(z1, z2))
        self.effective_rank.update_state(rank, sample_weight=ops.cast(due, "float32"))

    def after_step(self) -> None:
        """Sets W_p by the rule or symmetrises it, then moves the target."""
        self.set_predictor()
        if self.config.symmetric:
            values = predictors.symmetrize(*self.predictor_kernels)
            values = values if isinstance(values, tuple) else (values,)
            for kernel, value in zip(self.predictor_kernels, values, strict=True):
                kernel.assign(value)
        self.update_target()

    def update_target(self) -> None:
        """All weights of the target become tau * target + (1 - tau) * online, where there is one."""
        if self.target_backbone is None or self.target_projector is None:
            return
        tau = self.resolved.tau
        targets = (*self.target_backbone.weights, *self.target_projector.weights)
        onlines = (*self.backbone.weights, *self.projector.weights)
        for target, online in zip(targets, onlines, strict=True):
            target.assign(tau * target + (1.0 - tau) * online)

    @full_precision()
    def set_predictor(self) -> None:
        """W_p from F by the method's rule, if it has one, after the first step and every `freq` from there."""
        if self.method.rule is None:
            return
        rule = getattr(predictors, str(self.method.rule), self.method.rule)
        (kernel,) = self.predictor_kernels

        def ruled() -> Any:
            return ops.transpose(rule(ops.convert_to_tensor(self.correlation), **self.resolved.rule_options))

        if self.resolved.freq == 1:
            kernel.assign(ruled())
        else:
            due = ops.equal(ops.mod(self.steps - 1, self.resolved.freq), 0)
            kernel.assign(ops.cond(due, ruled, lambda: ops.convert_to_tensor(kernel)))
