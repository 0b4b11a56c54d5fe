"""One run: load, pre-train, probe, record."""

import math
from collections.abc import Sequence
from pathlib import Path

import keras

from selfsup import devices, probe
from selfsup.callbacks import EigenspaceLog, EpochLog, Progress, TensorBoardLog
from selfsup.clock import Clock
from selfsup.config import METHODS, Config
from selfsup.datasets import Dataset, batches, load_dataset
from selfsup.durations import duration
from selfsup.encoder import FILENAME, export_encoder, probed_model
from selfsup.errors import InputError
from selfsup.estimate import forward_seconds, training_seconds
from selfsup.model import SiameseModel
from selfsup.results import Result, check_workdir, claim_workdir, commit

STEPS_PER_EXECUTION = 16
LONG = 2 * 3600


def run(config: Config, workdir: str | Path | None = None, tensorboard: bool = False) -> Result:
    """Pre-trains, probes and records; a run that has finished before is only read.

    Leaves in `workdir`: config.json, log.csv, timing.csv, eigenspace.npz, encoder.keras and, last of all,
    result.json.

    Args:
        config: what to run.
        workdir: where; default `config.default_workdir`.
        tensorboard: whether to write the scalars for TensorBoard as well, below `workdir`.

    Returns:
        The record, as `result.json` has it.

    Raises:
        InputError: the data cannot be used, or the workdir or TensorBoard cannot, before any training.
    """
    workdir = Path(workdir or config.default_workdir)
    if (finished := check_workdir(workdir, config)) is not None:
        print(f"finished before, in {workdir}; nothing to do")
        return finished
    devices.keep_freed_memory()
    clock = Clock()
    with clock.part("load"):
        data = load_dataset(config.dataset, config.data_dir)
        steps = len(data.x_train) // config.batch_size
        if steps == 0:
            raise InputError(
                f"batch_size {config.batch_size} is larger than the {len(data.x_train)} training images"
            )
        log = EpochLog(workdir, steps * config.batch_size)
        eigenspaces = EigenspaceLog(workdir, config.record_every)
        progress = Progress(config.epochs, steps, config.batch_size)
        callbacks = [clock.watch(progress, "callbacks"), clock.watch(log, "callbacks")]
        callbacks.append(clock.watch(eigenspaces, "records"))
        if tensorboard:
            callbacks.append(clock.watch(TensorBoardLog(workdir, log, eigenspaces), "records"))
        claim_workdir(workdir, config)
        keras.utils.set_random_seed(config.seed)
        model = SiameseModel(config, data.x_train, data.mean, data.std)
        model.compile(steps_per_execution=_largest_divisor(steps, STEPS_PER_EXECUTION))
        model.rank_every = min(model.rank_every, steps)
        probed = probed_model(model.backbone, model.projector, reuse=config.projector_layers > 2)
        probes = (*probed.output, "knn")
    precision = devices.resolve_precision(config.precision)
    parameters = sum(math.prod(v.shape) for v in model.trainable_variables)
    _announce(config, data, workdir, precision, parameters)
    with clock.part("compile"):
        forward = forward_seconds(config, probed, data)
    if forward is not None:
        _announce_time(training_seconds(config, forward, len(data.x_train)))
    accuracy = {}
    if config.probe_untrained:
        accuracy["untrained_linear"] = _probe(probed, data, config, ("linear",), clock)["linear"]
        print(f"linear probe of the untrained network: {accuracy['untrained_linear']:.2f} %")

    with clock.part("steps"):
        model.fit(
            batches(len(data.x_train), config.batch_size, config.seed),
            steps_per_epoch=steps,
            epochs=config.epochs,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )
    clock.move(progress.compile_seconds, "steps", "compile")
    accuracy |= dict.fromkeys(probes) if log.diverged else _probe(probed, data, config, probes, clock)
    with clock.part("records"):
        export_encoder(model.backbone, config.width, workdir / FILENAME)
        described = data.describe()
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
        dataset=described,
        commit=commit(),
    )
    result.write(workdir)
    return result


def _probe(
    probed: keras.Model, data: Dataset, config: Config, names: Sequence[str], clock: Clock
) -> dict[str, float]:
    """Accuracies in percent by name: linear probes on outputs of `probed`, and "knn" on the backbone's."""
    with clock.part("probe"):
        train, test = (probe.embed(probed, x, data.mean, data.std) for x in (data.x_train, data.x_test))
    train["knn"], test["knn"] = train["linear"], test["linear"]
    accuracy = {}
    for name in names:
        features = (train[name], data.y_train, test[name], data.y_test)
        with clock.part("knn" if name == "knn" else "probe"):
            if name == "knn":
                accuracy[name] = probe.knn(*features)
            else:
                accuracy[name] = probe.linear_probe(*features, config.probe_epochs, seed=config.seed)
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


def _announce_time(seconds: float) -> None:
    print(f"time     about {duration(seconds)} of training, estimated from a forward pass on this machine")
    if seconds > LONG:
        print("         lighter: --preset=lite (width 16, 10 epochs) or --preset=quick (no data needed)")


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _largest_divisor(number: int, limit: int) -> int:
    return max(d for d in range(1, limit + 1) if number % d == 0)
