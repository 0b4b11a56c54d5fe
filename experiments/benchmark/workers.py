"""The variants of a training step; a process times one of them on request."""

import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

IMAGES = 2048
PROBED = {"train": 50_000, "test": 10_000}
WARM_UP = 2


class OurStep:
    """Whole steps of this package by `fit`, on random images.

    Args:
        steps: steps per round.
        config: fields of `Config`.
        stock: whether to use Keras' own layers.
        host: whether the images stay on the host.
    """

    def __init__(self, steps: int, config: dict[str, Any], stock: bool = False, host: bool = False) -> None:
        import keras
        import numpy as np

        from selfsup import Config, Dataset, SiameseModel
        from selfsup.backend import devices
        from selfsup.networks.backbones import in_stock_layers
        from selfsup.networks.resnet import resnet18

        if not stock:
            devices.keep_freed_memory()
        self.config = Config(**config)
        self.steps = steps
        self.images = max(IMAGES, self.config.batch_size)
        size = self.config.image_size
        images = np.random.default_rng(0).integers(0, 256, (self.images, size, size, 3), dtype=np.uint8)
        self.host = Dataset("random", images) if host else None
        keras.utils.set_random_seed(0)
        if stock:
            backbone = in_stock_layers(
                resnet18(self.config.width, (size, size, 3), stem=self.config.resolved.stem),
                policy=devices.resolve_precision(self.config.precision),
            )
        stored = None if host else images
        self.model = SiameseModel(self.config, stored, backbone=backbone if stock else None)
        self.model.compile(steps_per_execution=steps)
        for _ in range(WARM_UP):
            self.seconds()

    def seconds(self) -> float:
        """Returns the seconds per step over one execution, without the start of `fit`."""
        import keras

        from selfsup.data.batches import ahead, batches, gather

        ends = []

        class Timer(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                ends.append(time.perf_counter())

        data: Any = batches(self.images, self.config.batch_size, seed=0)
        if self.host is not None:
            indices = (rows for (rows,) in data)
            data = ((images,) for images in ahead(functools.partial(gather, self.host), indices))
        self.model.fit(data, steps_per_epoch=2 * self.steps, shuffle=False, verbose=0, callbacks=[Timer()])
        return (ends[-1] - ends[0]) / self.steps

    def phases(self) -> dict[str, float]:
        """Returns the median seconds of the phases of a step, each compiled separately (TensorFlow only)."""
        import keras

        if keras.backend.backend() != "tensorflow":
            return {}
        import tensorflow as tf

        model = self.model
        batch = tf.range(self.config.batch_size)
        pair = model.views(batch)
        variables = model.trainable_variables

        def forward() -> Any:
            return model.compute_loss(y_pred=model(pair, training=True), training=False)

        def gradients() -> Any:
            with tf.GradientTape() as tape:
                loss = forward()
            return tape.gradient(loss, [v.value for v in variables])

        def target() -> Any:
            return [model.target_projector(model.target_backbone(v, training=True)) for v in pair]

        grads = tf.function(gradients)()
        jobs: dict[str, Callable] = {
            "augmentation": lambda: model.views(batch),
            "forward, with target's": forward,
            "forward and backward": gradients,
            "optimizer": lambda: model.optimizer.apply(grads, variables),
        }
        if model.rule:
            jobs["predictor rule"] = model.set_predictor
        if model.target_backbone is not None:
            jobs |= {"target's forward": target, "target EMA": model.update_target}
        compiled = {name: tf.function(job) for name, job in jobs.items()}
        return {name: _median_seconds(lambda job=job: _ended(job)) for name, job in compiled.items()}

    def probe(self) -> dict[str, float]:
        """Returns the seconds of an evaluation on CIFAR-10: features (extrapolated), probe and k-NN."""
        import numpy as np

        from selfsup.analysis import probe
        from selfsup.analysis.encoder import probed_model

        network = probed_model(self.model.backbone, self.model.projector, reuse=False)
        size = self.config.image_size
        images = np.random.default_rng(0).integers(0, 256, (IMAGES, size, size, 3), dtype=np.uint8)
        factor = sum(PROBED.values()) / IMAGES

        def features() -> Any:
            return probe.embed(network, images, self.model.mean, self.model.std)

        rng = np.random.default_rng(0)
        (dims,) = network.output["linear"].shape[1:]
        sets = [
            (rng.normal(size=(count, dims)).astype(np.float32), rng.integers(0, 10, count))
            for count in PROBED.values()
        ]
        arrays = [array for pair in sets for array in pair]
        return {
            "features of 60,000 images": factor * _median_seconds(features, 3),
            "100 epochs of 50,000": _seconds(lambda: probe.linear_probe(*arrays)),
            "k-NN of 10,000": _seconds(lambda: probe.knn(*arrays)),
        }

    def environment(self) -> dict[str, str]:
        """Returns the device and the versions as text."""
        from selfsup.backend import devices

        found = devices.environment(
            devices.describe_device(), devices.resolve_precision(self.config.precision)
        )
        versions = {**found["versions"], **_version_of("torch")}
        shown = (f"{name} {version}" for name, version in versions.items())
        return {
            "device": f"{found['device']}, {found['backend']}, {found['precision']}",
            "versions": ", ".join(shown),
        }


class TorchReference:
    """Steps of the PyTorch reference."""

    def __init__(self, steps: int, config: dict[str, Any], bfloat16: bool) -> None:
        from experiments.benchmark.torch_step import TorchStep

        self.steps = steps
        stem, size = config["stem"], config["image_size"]
        self.step = TorchStep(config["width"], config["batch_size"], config["ema"], bfloat16, size, stem)
        for _ in range(WARM_UP):
            self.step()

    def seconds(self) -> float:
        """Returns the seconds per step over one round."""
        began = time.perf_counter()
        for _ in range(self.steps):
            self.step()
        return (time.perf_counter() - began) / self.steps


KINDS: dict[str, Callable] = {
    "ours": OurStep,
    "noema": lambda steps, config: OurStep(steps, {**config, "ema": False, "tau": None}),
    "newton_schulz": lambda steps, config: OurStep(steps, {**config, "solver": "newton_schulz"}),
    "host": lambda steps, config: OurStep(steps, config, host=True),
    "stock": lambda steps, config: OurStep(steps, config, stock=True),
    "torch": lambda steps, config: TorchReference(steps, config, bfloat16=True),
    "torch_float32": lambda steps, config: TorchReference(steps, config, bfloat16=False),
}


def _peak_mib() -> int | None:
    """Returns the most memory that this process has used; None on Windows, which does not report it."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def _version_of(package: str) -> dict[str, str]:
    try:
        return {package: metadata.version(package)}
    except metadata.PackageNotFoundError:
        return {}


def _seconds(function: Callable) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _ended(job: Callable) -> None:
    """Calls a function of TensorFlow and waits for the device, which runs behind."""
    import tensorflow as tf

    job()
    tf.test.experimental.sync_devices()


def _median_seconds(function: Callable, repeats: int = 7) -> float:
    function()
    return statistics.median(_seconds(function) for _ in range(repeats))


def serve(spec: dict[str, Any]) -> None:
    """Builds a variant, then answers questions on stdin until it is closed."""
    step = KINDS[spec["kind"]](spec["steps"], spec["config"])
    answers = {
        "step": step.seconds,
        "phases": lambda: step.phases(),
        "probe": lambda: step.probe(),
        "environment": lambda: step.environment(),
        "memory": _peak_mib,
    }
    print("answer null", flush=True)
    for line in sys.stdin:
        print(f"answer {json.dumps(answers[line.strip()]())}", flush=True)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
