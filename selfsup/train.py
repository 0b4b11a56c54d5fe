"""One run: load, pre-train, probe, record."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from selfsup import devices, probe
from selfsup.callbacks import EpochLog, Progress, duration
from selfsup.config import METHODS, Config
from selfsup.datasets import Dataset, batches, load_dataset
from selfsup.encoder import FILENAME, export_encoder, probed_model
from selfsup.errors import InputError
from selfsup.model import SiameseModel
from selfsup.results import Result, check_workdir, claim_workdir, commit

STEPS_PER_EXECUTION = 16
LONG = 2 * 3600
FORWARDS_PER_STEP = {"tensorflow": 9.0, "jax": 13.0}
"""Forward passes of a batch at inference that take as long as a step with EMA, on a CPU (measured)."""
WITHOUT_EMA = 0.75


class Clock:
    """Seconds of the parts of a run, by name."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def total(self) -> dict[str, float]:
        """All parts and `total`, since the clock was made."""
        seconds = {**self.seconds, "total": time.perf_counter() - self._began}
        return {name: round(value, 3) for name, value in seconds.items()}


def run(config: Config, workdir: str | Path | None = None) -> Result:
    """Pre-trains, probes and records; a run that has finished before is only read.

    Leaves in `workdir`: config.json, log.csv, timing.csv, encoder.keras and, last of all, result.json.

    Args:
        config: what to run.
        workdir: where; default `config.default_workdir`.

    Returns:
        The record, as `result.json` has it.

    Raises:
        InputError: the data cannot be used, or the workdir cannot, before any training.
    """
    workdir = Path(workdir or config.default_workdir)
    if (finished := check_workdir(workdir, config)) is not None:
        print(f"finished before, in {workdir}; nothing to do")
        return finished
    clock = Clock()
    with clock.part("load"):
        data = load_dataset(config.dataset, config.data_dir)
        steps = len(data.x_train) // config.batch_size
        if steps == 0:
            raise InputError(
                f"batch_size {config.batch_size} is larger than the {len(data.x_train)} training images"
            )
        claim_workdir(workdir, config)
        keras.utils.set_random_seed(config.seed)
        model = SiameseModel(config, data.x_train, data.mean, data.std)
        model.compile(steps_per_execution=_largest_divisor(steps, STEPS_PER_EXECUTION))
        model.rank_every = min(model.rank_every, steps)
        probed = probed_model(model.backbone, model.projector, reuse=config.projector_layers > 2)
    precision = devices.resolve_precision(config.precision)
    parameters = sum(math.prod(v.shape) for v in model.trainable_variables)
    _announce(config, data, workdir, precision, parameters)
    if not devices.on_gpu():
        _announce_time(config, probed, data, steps)
    accuracy = {}
    if config.probe_untrained:
        with clock.part("probe"):
            accuracy["untrained_linear"] = _probe(probed, data, config)["linear"]
        print(f"linear probe of the untrained network: {accuracy['untrained_linear']:.2f} %")

    log = EpochLog(workdir, steps * config.batch_size)
    progress = Progress(config.epochs, steps, config.batch_size)
    with clock.part("train"):
        model.fit(
            batches(len(data.x_train), config.batch_size, config.seed),
            steps_per_epoch=steps,
            epochs=config.epochs,
            shuffle=False,
            verbose=0,
            callbacks=[progress, log],
        )
    with clock.part("probe"):
        accuracy |= {"linear": None, "knn": None} if log.diverged else _probe(probed, data, config)
    export_encoder(model.backbone, config.width, workdir / FILENAME)
    result = Result(
        config=config.to_dict(),
        accuracy=accuracy,
        collapsed=log.collapsed,
        diverged=log.diverged,
        monitor={name: _or_none(value) for name, value in log.row.items() if name != "epoch"},
        seconds=clock.total(),
        images_per_second=round(progress.images_per_second, 1),
        parameters=parameters,
        environment=devices.environment(precision),
        dataset=data.describe(),
        commit=commit(),
    )
    result.write(workdir)
    return result


def _probe(probed: keras.Model, data: Dataset, config: Config) -> dict[str, float]:
    """Accuracies in percent: a linear probe on each output of `probed`, k-NN on the backbone's."""
    train, test = (probe.embed(probed, x, data.mean, data.std) for x in (data.x_train, data.x_test))
    accuracy = {
        name: probe.linear_probe(
            train[name], data.y_train, test[name], data.y_test, config.probe_epochs, seed=config.seed
        )
        for name in train
    }
    accuracy["knn"] = probe.knn(train["linear"], data.y_train, test["linear"], data.y_test)
    return {name: round(value, 2) for name, value in accuracy.items()}


def _announce(config: Config, data: Dataset, workdir: Path, precision: str, parameters: int) -> None:
    method = METHODS[config.method]
    details = [config.title, "EMA target" if config.ema else "no EMA"]
    details += ["symmetric W_p"] if config.symmetric else []
    print(f"method   {', '.join(details)}: {method.summary}")
    print(f"data     {data.name}: {len(data.x_train)} training and {len(data.x_test)} test images, ", end="")
    print(f"{data.classes} classes{'; ' + data.note if data.note else ''}")
    print(f"network  ResNet-18 of width {config.width}, {parameters:,} trained parameters")
    print(f"device   {devices.describe_device()}, {keras.backend.backend()}, {precision}")
    print(f"workdir  {workdir}", flush=True)


def _announce_time(config: Config, probed: keras.Model, data: Dataset, steps: int) -> None:
    """On a CPU, how long the training will take, from the forward pass as it is measured here."""
    images = data.x_train[: config.batch_size]
    probe.embed(probed, images, data.mean, data.std)
    began = time.perf_counter()
    probe.embed(probed, images, data.mean, data.std)
    forward = time.perf_counter() - began
    passes = FORWARDS_PER_STEP[keras.backend.backend()] * (1.0 if config.ema else WITHOUT_EMA)
    seconds = config.epochs * steps * forward * passes
    print(f"time     about {duration(seconds)} of training, estimated from a forward pass on this machine")
    if seconds > LONG:
        print("         lighter: --preset=lite (width 16, 10 epochs) or --preset=quick (no data needed)")


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _largest_divisor(number: int, limit: int) -> int:
    return max(d for d in range(1, limit + 1) if number % d == 0)
