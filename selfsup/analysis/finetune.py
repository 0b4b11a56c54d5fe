"""Fine-tuning: a backbone and a linear classifier on it, trained together on labelled images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from selfsup.analysis.probe import embed
from selfsup.augment import COLUMNS, Augmentation
from selfsup.backend.devices import jit_compile
from selfsup.data.batches import batches
from selfsup.networks.backbones import in_stock_layers, set_weights, sublayers
from selfsup.pixels import crop_and_flip

STEPS_PER_EXECUTION = 10


@dataclass(frozen=True)
class Recipe:
    """How a network is fine-tuned, or trained from scratch.

    The defaults are SimCLR's (Chen et al. 2020, arXiv:2002.05709, appendix B.5): Nesterov momentum, a rate of
    0.05 * batch size / 256, no weight decay, 30 epochs on a tenth of the labels, crops and flips only. As in
    their code, the rate decays to 0 as a cosine and the classifier starts at 0.

    Attributes:
        learning_rate: the first learning rate.
        momentum: Nesterov momentum.
        batch_size: images per step; all images if there are fewer.
        epochs: passes over the labelled images; the last partial batch is dropped.
        least_steps: least number of steps; few images get more epochs to reach it.
    """

    learning_rate: float = 0.025
    momentum: float = 0.9
    batch_size: int = 128
    epochs: int = 30
    least_steps: int = 500

    def steps(self, images: int) -> int:
        """Returns the number of steps for a number of labelled images, a multiple of ten.

        Example:
            >>> Recipe().steps(100), Recipe().steps(50_000)
            (500, 11700)
        """
        steps = max(self.epochs * (images // min(self.batch_size, images)), self.least_steps)
        return -(-steps // STEPS_PER_EXECUTION) * STEPS_PER_EXECUTION


@dataclass(frozen=True)
class Labelled:
    """Training images, uint8 [N, S, S, 3], their classes, int [N], and the same for test images."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


class Finetuner:
    """A network that can be trained repeatedly, from given weights and on a fixed number of images.

    Args:
        backbone: a functional model from normalised images [B, S, S, 3] to features [B, D]. It is copied.
        classes: number of classes.
        images: number of training images.
        recipe: how the network is trained.
        augmentation: the crops and flips, and mean and std to normalise by; other fields are ignored.
        policy: dtype policy of the backbone.
    """

    def __init__(
        self,
        backbone: keras.Model,
        classes: int,
        images: int,
        recipe: Recipe,
        augmentation: Augmentation,
        policy: str = "float32",
    ) -> None:
        assert augmentation.mean is not None
        assert augmentation.std is not None
        self.recipe, self.steps = recipe, recipe.steps(images)
        self.mean, self.std = augmentation.mean, augmentation.std
        self.backbone = in_stock_layers(backbone, policy=policy)
        for layer in sublayers(self.backbone):
            layer.trainable = True  # also what was frozen in pre-training
        head = keras.layers.Dense(classes, kernel_initializer="zeros", dtype="float32", name="classifier")
        self.network = keras.Model(self.backbone.inputs[0], head(self.backbone.outputs[0]))
        self.network.compile(jit_compile=jit_compile())
        self._head = head
        self._model = _Augmented(self.network, augmentation)
        rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, self.steps)
        self._model.compile(
            keras.optimizers.SGD(rate, recipe.momentum, nesterov=True),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=jit_compile(),
            steps_per_execution=STEPS_PER_EXECUTION,
        )
        self._model.optimizer.build(self.network.trainable_variables)

    def __call__(
        self,
        weights: list[np.ndarray],
        data: Labelled,
        seed: int = 0,
        progress: Callable[[int], None] = lambda step: None,
    ) -> float:
        """Trains the network, and returns its test accuracy.

        Args:
            weights: the weights that the backbone starts with.
            data: images and classes.
            seed: of the order of the images, the crops, the flips and layers such as Dropout. On a CPU the
                same seed gives the same bits.
            progress: called with the number of steps done so far.

        Returns:
            The accuracy in percent after the last step, even if it was better before.
        """
        set_weights(self.backbone, weights)
        for variable in (*self._head.variables, *self._model.optimizer.variables):
            variable.assign(np.zeros(variable.shape))
        states = [v for v in self.network.variables if v.path.endswith("seed_generator_state")]
        for index, state in enumerate(states):
            state.assign(np.random.SeedSequence((seed, index)).generate_state(2))
        self._model.fit(
            self._batches(data, seed),
            steps_per_epoch=self.steps,
            shuffle=False,
            verbose=0,
            callbacks=[
                keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: progress(step + 1))
            ],
        )
        logits = embed(self.network, data.x_test, self.mean, self.std)
        return float(np.mean(np.argmax(logits, axis=1) == data.y_test) * 100.0)

    def _batches(self, data: Labelled, seed: int) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], Any]]:
        """Yields images and random numbers, and classes, without end."""
        count = len(data.x_train)
        rng = np.random.default_rng([seed, 0, 1])  # not the numbers of the order
        for (indices,) in batches(count, min(self.recipe.batch_size, count), seed):
            numbers = rng.random((len(indices), COLUMNS), np.float32)
            yield (data.x_train[indices], numbers), data.y_train[indices]


def random_weights(backbone: keras.Model, seed: int) -> list[np.ndarray]:
    """Returns new initial weights for a backbone; adapted statistics stay. Keras' random seed is set."""
    keras.utils.set_random_seed(seed)
    fresh = keras.models.clone_model(backbone)
    for new, old in zip(sublayers(fresh), sublayers(backbone), strict=True):
        if hasattr(old, "finalize_state"):  # of the data, not learned, as in `Normalization`
            new.set_weights(old.get_weights())
    return fresh.get_weights()


class _Augmented(keras.Model):
    """The network on cropped, flipped and normalised images."""

    def __init__(self, network: keras.Model, augmentation: Augmentation) -> None:
        super().__init__(name="augmented")
        self.network, self.augmentation = network, augmentation
        self.built = True

    def call(self, inputs: tuple[Any, Any], training: bool = False) -> Any:
        images, numbers = inputs
        pixels = ops.cast(images, "float32") / 255.0
        drawn = self.augmentation.parameters(numbers, images.shape[1])
        shift, scale = (
            ops.convert_to_tensor(x, "float32") for x in (self.augmentation.mean, self.augmentation.std)
        )
        return self.network((crop_and_flip(pixels, drawn) - shift) / scale, training=training)
