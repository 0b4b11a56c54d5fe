"""Variants of a training step, each in a process of its own that waits for its turn."""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

IMAGES = 2048
PROBED = {"train": 50_000, "test": 10_000}
WARM_UP = 2
ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """A process that times steps of one variant when it is asked to; quiet in between.

    Args:
        spec: what to time: `kind` (a name of `KINDS`), `steps` per round, and `config`,
            fields of `Config`.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        command = [sys.executable, "-m", __name__, json.dumps(spec)]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=ROOT
        )
        self._answer()

    def ask(self, question: str) -> Any:
        """ "step": seconds per step of a round; "parts", "probe": seconds by part; "memory": MiB at most."""
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> Any:
        for line in self._process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        self._errors.seek(0)
        *_, reason = self._errors.read().splitlines() or ["no reason given"]
        raise RuntimeError(f"the process of {self.spec['kind']} ended: {reason}")


class OurStep:
    """Whole steps by `fit`, as a run makes them, on images that are noise.

    Args:
        steps: per round.
        config: fields of `Config`.
        stock: with Keras' own layers.
    """

    def __init__(self, steps: int, config: dict[str, Any], stock: bool = False) -> None:
        import keras
        import numpy as np

        from selfsup import Config, SiameseModel
        from selfsup.backend import devices
        from selfsup.networks.backbones import in_stock_layers
        from selfsup.networks.resnet import resnet18

        if not stock:
            devices.keep_freed_memory()
        self.config = Config(**config)
        self.steps = steps
        self.images = max(IMAGES, self.config.batch_size)
        images = np.random.default_rng(0).integers(0, 256, (self.images, 32, 32, 3), dtype=np.uint8)
        keras.utils.set_random_seed(0)
        if stock:
            backbone = in_stock_layers(
                resnet18(self.config.width), policy=devices.resolve_precision(self.config.precision)
            )
        self.model = SiameseModel(self.config, images, backbone=backbone if stock else None)
        self.model.compile(steps_per_execution=steps)
        for _ in range(WARM_UP):
            self.seconds()

    def seconds(self) -> float:
        """Per step, over one execution of the compiled function, start-up of `fit` left out."""
        import keras

        from selfsup.data.batches import batches

        ends = []

        class Timer(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                ends.append(time.perf_counter())

        data = batches(self.images, self.config.batch_size, seed=0)
        self.model.fit(data, steps_per_epoch=2 * self.steps, shuffle=False, verbose=0, callbacks=[Timer()])
        return (ends[-1] - ends[0]) / self.steps

    def parts(self) -> dict[str, float]:
        """Median seconds of the parts of a step, each compiled alone (TensorFlow only)."""
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
        if model.method.rule:
            jobs["predictor rule"] = model.set_predictor
        if model.target_backbone is not None:
            jobs |= {"target's forward": target, "target EMA": model.update_target}
        return {name: _median_seconds(tf.function(job)) for name, job in jobs.items()}

    def probe(self) -> dict[str, float]:
        """Seconds of what follows the training of CIFAR-10: features (by a part of them), probe, k-NN."""
        import numpy as np

        from selfsup.analysis import probe
        from selfsup.analysis.encoder import probed_model

        network = probed_model(self.model.backbone, self.model.projector, reuse=False)
        images = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
        share = sum(PROBED.values()) / IMAGES

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
            "features of 60,000 images": share * _median_seconds(features, 3),
            "100 epochs of 50,000": _seconds(lambda: probe.linear_probe(*arrays)),
            "k-NN of 10,000": _seconds(lambda: probe.knn(*arrays)),
        }

    def environment(self) -> dict[str, str]:
        """Device and versions in words."""
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
    """Steps of the plain PyTorch reference."""

    def __init__(self, steps: int, config: dict[str, Any], bfloat16: bool) -> None:
        from experiments.benchmark.torch_step import TorchStep

        self.steps = steps
        self.step = TorchStep(config["width"], config["batch_size"], config["ema"], bfloat16)
        for _ in range(WARM_UP):
            self.step()

    def seconds(self) -> float:
        """Per step."""
        began = time.perf_counter()
        for _ in range(self.steps):
            self.step()
        return (time.perf_counter() - began) / self.steps

    def parts(self) -> dict[str, float]:
        """None: the reference is timed whole."""
        return {}


KINDS: dict[str, Callable] = {
    "ours": OurStep,
    "noema": lambda steps, config: OurStep(steps, {**config, "ema": False, "tau": None}),
    "newton_schulz": lambda steps, config: OurStep(steps, {**config, "solver": "newton_schulz"}),
    "stock": lambda steps, config: OurStep(steps, config, stock=True),
    "torch": lambda steps, config: TorchReference(steps, config, bfloat16=True),
    "torch_float32": lambda steps, config: TorchReference(steps, config, bfloat16=False),
}


def _peak_mib() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _version_of(package: str) -> dict[str, str]:
    try:
        return {package: metadata.version(package)}
    except metadata.PackageNotFoundError:
        return {}


def _seconds(function: Callable) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _median_seconds(function: Callable, repeats: int = 7) -> float:
    function()
    return statistics.median(_seconds(function) for _ in range(repeats))


def serve(spec: dict[str, Any]) -> None:
    """Builds the variant, then answers questions on stdin until it is closed."""
    step = KINDS[spec["kind"]](spec["steps"], spec["config"])
    answers = {
        "step": step.seconds,
        "parts": step.parts,
        "probe": lambda: step.probe(),
        "environment": lambda: step.environment(),
        "memory": _peak_mib,
    }
    print("answer null", flush=True)
    for line in sys.stdin:
        print(f"answer {json.dumps(answers[line.strip()]())}", flush=True)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
