"""Evaluations of an encoder on a share of the labels: probes, k-NN, fine-tuning, and their baselines."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import keras
import numpy as np

from selfsup.analysis import finetune, probe
from selfsup.analysis.encoder import Encoder, encoder_model
from selfsup.augment import Augmentation
from selfsup.backend.devices import jit_compile
from selfsup.data.dataset import Dataset
from selfsup.data.labels import stratified
from selfsup.networks.backbones import set_weights
from selfsup.records.evaluations import Evaluations, Key, Measurement
from selfsup.utils.checksum import checksum
from selfsup.utils.errors import InputError

EVALUATIONS = ("linear", "knn", "finetune")
PROBES = {"paper": probe.PAPER, "tian": probe.TIAN}
LEAST_STEPS = 500
"""Least number of steps of a linear probe; with few labels, more epochs reach it."""
CHUNK = 1024

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What is evaluated, and how.

    Attributes:
        only: names in `EVALUATIONS`.
        labels: shares of the training labels, in (0, 1].
        seeds: number of repetitions; each uses another subset of the labels.
        probes: linear probes by name in `PROBES`.
        k, temperature: of the k-NN, see `probe.knn`.
        recipe: of fine-tuning.
        crop_min, flip_rate: least area of a crop, and probability of a flip, in fine-tuning.
        precision: dtype policy of fine-tuning.
        from_scratch: whether to also train the network from random weights, by the recipe of fine-tuning.
        from_untrained: whether to evaluate the random network by linear probes and k-NN, too.
    """

    only: tuple[str, ...] = EVALUATIONS
    labels: tuple[float, ...] = (0.01, 0.1, 1.0)
    seeds: int = 3
    probes: tuple[str, ...] = ("paper",)
    k: int = 200
    temperature: float = 0.1
    recipe: finetune.Recipe = field(default_factory=finetune.Recipe)
    crop_min: float = 0.08
    flip_rate: float = 0.5
    precision: str = "float32"
    from_scratch: bool = False
    from_untrained: bool = False


@dataclass(frozen=True)
class Task:
    """Measurements that are taken together: their keys, seed, and a function that returns the accuracies."""

    keys: tuple[Key, ...]
    seed: int
    measure: Callable[[Progress], list[float]]


class Bench:
    """An encoder and a labelled dataset.

    Args:
        encoder: the encoder.
        data: images of the encoder's size, with labels.
        options: what is evaluated.

    Raises:
        InputError: the dataset has no labels, or images of another size.
    """

    def __init__(self, encoder: Encoder, data: Dataset, options: Options) -> None:
        if data.y_train is None or data.x_test is None or data.y_test is None:
            raise InputError(
                f"dataset {data.name} has no labels, which evaluations need; choose another --dataset"
            )
        if data.image_size != encoder.image_size:
            raise InputError(
                f"dataset {data.name} has images of {data.image_size} pixels, the encoder takes "
                f"{encoder.image_size}; load the dataset with that image_size"
            )
        self.encoder, self.data, self.options = encoder, data, options
        self.y_train, self.x_test, self.y_test = data.y_train, data.x_test, data.y_test
        self.digest = checksum(encoder.model.get_weights())[:16]
        self._features: tuple[int | None, tuple[np.ndarray, np.ndarray]] | None = None
        self._finetuner: tuple[int, finetune.Finetuner] | None = None

    def tasks(self) -> Iterator[Task]:
        """Yields all tasks, those with the same features or the same number of images after one another."""
        options, frozen = self.options, [name for name in ("linear", "knn") if name in self.options.only]
        for untrained in (False, True) if options.from_untrained else (False,):
            for seed in range(options.seeds):
                for share in options.labels:
                    if "linear" in frozen:
                        yield from (self._linear(name, share, seed, untrained) for name in options.probes)
                    if "knn" in frozen:
                        yield self._knn(share, seed, untrained)
        trained = ["finetune"] * ("finetune" in options.only) + ["supervised"] * options.from_scratch
        for share in options.labels:
            for seed in range(options.seeds):
                yield from (self._finetune(name, share, seed) for name in trained)

    def _key(self, name: str, share: float, chosen: np.ndarray, settings: dict[str, Any]) -> Key:
        backend = keras.backend.backend()
        return Key(name, share, len(chosen), settings, self.data.fingerprint, self.digest, backend)

    def _linear(self, name: str, share: float, seed: int, untrained: bool) -> Task:
        chosen = stratified(self.y_train, share, seed)
        recipe = PROBES[name]
        steps = max(1, len(chosen) // recipe.batch_size)
        recipe = replace(recipe, epochs=max(recipe.epochs, math.ceil(LEAST_STEPS / steps)))
        names = ("linear",) if name == "paper" else (f"linear_{name}_last", f"linear_{name}_best")
        prefix = "untrained_" if untrained else ""
        keys = tuple(self._key(prefix + one, share, chosen, asdict(recipe)) for one in names)

        def measure(progress: Progress) -> list[float]:
            train, test = self._embedded(seed if untrained else None, progress)
            features = (train[chosen], self.y_train[chosen], test, self.y_test)
            epochs = probe.probe_epochs(*features, recipe, seed)
            if len(keys) == 1:
                return [probe.last_accuracy(epochs)]
            accuracies = [accuracy() for accuracy in epochs]
            return [accuracies[-1], max(accuracies)]

        return Task(keys, seed, measure)

    def _knn(self, share: float, seed: int, untrained: bool) -> Task:
        chosen = stratified(self.y_train, share, seed)
        k, temperature = self.options.k, self.options.temperature
        settings = {"k": k, "temperature": temperature}
        key = self._key("untrained_knn" if untrained else "knn", share, chosen, settings)

        def measure(progress: Progress) -> list[float]:
            train, test = self._embedded(seed if untrained else None, progress)
            features = (train[chosen], self.y_train[chosen], test, self.y_test)
            return [probe.knn(*features, k, temperature)]

        return Task((key,), seed, measure)

    def _finetune(self, name: str, share: float, seed: int) -> Task:
        options, chosen = self.options, stratified(self.y_train, share, seed)
        recipe = options.recipe
        settings = {name: getattr(options, name) for name in ("crop_min", "flip_rate", "precision")}
        steps = recipe.steps(len(chosen))
        key = self._key(name, share, chosen, {**asdict(recipe), "steps": steps, **settings})

        def measure(progress: Progress) -> list[float]:
            began = time.perf_counter()

            def show(step: int) -> None:
                left = (time.perf_counter() - began) / step * (steps - step)
                progress(f"step {step}/{steps}, {left:.0f} s left")

            backbone = self.encoder.backbone
            fresh = name == "supervised"
            weights = finetune.random_weights(backbone, seed) if fresh else backbone.get_weights()
            x_train = self.data.x_train
            images = x_train if len(chosen) == len(x_train) else x_train[chosen]  # all are not copied
            labelled = finetune.Labelled(images, self.y_train[chosen], self.x_test, self.y_test)
            return [self._tuner(len(chosen))(weights, labelled, seed, show)]

        return Task((key,), seed, measure)

    def _tuner(self, images: int) -> finetune.Finetuner:
        """Returns the fine-tuner for this number of images. It is compiled once for all seeds."""
        options, encoder = self.options, self.encoder
        if self._finetuner is None or self._finetuner[0] != images:
            crops = Augmentation(
                crop_area=(options.crop_min, 1.0), flip_rate=options.flip_rate,
                mean=encoder.mean, std=encoder.std,
            )  # fmt: skip
            made = finetune.Finetuner(
                encoder.backbone, self.data.classes, images, options.recipe, crops, options.precision
            )
            self._finetuner = (images, made)
        return self._finetuner[1]

    def _embedded(self, seed: int | None, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
        """Returns the features of the training and test images, by random weights if there is a seed."""
        if self._features is None or self._features[0] != seed:
            encoder = self.encoder if seed is None else _untrained(self.encoder, seed)
            total, done, found = len(self.data.x_train) + len(self.x_test), 0, []
            for images in (self.data.x_train, self.x_test):
                chunks = []
                for start in range(0, len(images), CHUNK):
                    chunks.append(encoder(images[start : start + CHUNK]))
                    done += len(chunks[-1])
                    progress(f"features {done:,}/{total:,}")
                found.append(np.concatenate(chunks))
            self._features = (seed, (found[0], found[1]))
        return self._features[1]


def _untrained(encoder: Encoder, seed: int) -> Encoder:
    """Returns an encoder of the same architecture with random weights."""
    backbone = keras.models.clone_model(encoder.backbone)
    set_weights(backbone, finetune.random_weights(encoder.backbone, seed))
    made = Encoder(encoder_model(backbone, encoder.mean, encoder.std, encoder.image_size))
    made.model.compile(jit_compile=jit_compile())
    return made


def _after(text: str, progress: Progress) -> Progress:
    return lambda more: progress(f"{text}: {more}")


def evaluate(
    bench: Bench, evaluations: Evaluations, progress: Progress, measured: Progress
) -> tuple[list[Measurement], int]:
    """Takes the measurements that are missing from a file, and writes the file after each one.

    Args:
        bench: what is evaluated.
        evaluations: the file.
        progress, measured: called with the state of the work, and with what was measured, as text.

    Returns:
        All measurements of the bench's options, and how many of them are new.

    Raises:
        OSError: the file cannot be written.
    """
    found, new, tasks = [], 0, list(bench.tasks())
    for index, task in enumerate(tasks, 1):
        known = [one for key in task.keys if (one := evaluations.find(key, task.seed))]
        if len(known) < len(task.keys):
            key, began = task.keys[0], time.perf_counter()
            text = f"{index}/{len(tasks)} {key.name}, {key.images:,} labels, seed {task.seed}"
            progress(text)
            values = task.measure(_after(text, progress))
            seconds = round(time.perf_counter() - began, 1)
            known = [
                Measurement(key, task.seed, round(value, 3), seconds)
                for key, value in zip(task.keys, values, strict=True)
            ]
            evaluations.add(known, bench.data.describe())
            new += len(known)
            accuracies = " and ".join(f"{one.accuracy:.2f} %" for one in known)
            measured(f"{text}: {accuracies}, {seconds:.1f} s")
        found += known
    return found, new
