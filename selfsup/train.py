"""One run: load, pre-train, probe, record."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras

from selfsup import checkpoints, devices, probe
from selfsup.callbacks import EigenspaceLog, EpochLog, TensorBoardLog
from selfsup.clock import Clock
from selfsup.config import METHODS, Config
from selfsup.datasets import Dataset, batches, load_dataset
from selfsup.durations import duration
from selfsup.encoder import FILENAME, export_encoder, probed_model
from selfsup.errors import InputError
from selfsup.estimate import forward_seconds, training_seconds
from selfsup.interrupts import Interruption
from selfsup.model import SiameseModel
from selfsup.progress import Progress
from selfsup.results import Result, commit
from selfsup.resume import Checkpoints, digest
from selfsup.workdir import clear, owned, write_config

STEPS_PER_EXECUTION = 10
LONG = 2 * 3600


def run(
    config: Config,
    workdir: str | Path | None = None,
    tensorboard: bool = False,
    checkpoint_minutes: float = 10.0,
    overwrite: bool = False,
) -> Result:
    """Pre-trains, probes and records; goes on where the same run was stopped; only reads a finished one.

    Leaves in `workdir`: config.json, log.csv, timing.csv, eigenspace.npz, encoder.keras and, last of all,
    result.json. While it trains, and after a divergence, its checkpoints are there as well.

    Args:
        config: what to run.
        workdir: where; default `config.default_workdir`.
        tensorboard: whether to write the scalars for TensorBoard as well, below `workdir`.
        checkpoint_minutes: minutes between two checkpoints inside an epoch; its end always has one.
        overwrite: whether to delete what is in `workdir` of this run or another, and start anew.

    Returns:
        The record, as `result.json` has it.

    Raises:
        InputError: the data cannot be used, or the workdir, its checkpoints or TensorBoard cannot, before
            any training.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; the state is saved.
    """
    workdir = Path(workdir or config.default_workdir)
    with owned(workdir, config, overwrite) as finished, Interruption() as interruption:
        if finished is not None:
            print(f"finished before, in {workdir}; nothing to do")
            return finished
        clock = Clock()
        with clock.part("load"):
            data = load_dataset(config.dataset, config.data_dir)
            if len(data.x_train) < config.batch_size:
                raise InputError(
                    f"batch_size {config.batch_size} is larger than the {len(data.x_train)} training images"
                )
        if overwrite:
            clear(workdir)
        return _run(config, data, workdir, tensorboard, checkpoint_minutes, interruption, clock)


def _run(
    config: Config,
    data: Dataset,
    workdir: Path,
    tensorboard: bool,
    checkpoint_minutes: float,
    interruption: Interruption,
    clock: Clock,
) -> Result:
    devices.keep_freed_memory()
    if config.deterministic:
        devices.make_deterministic()
    with clock.part("load"):
        steps = len(data.x_train) // config.batch_size
        log = EpochLog(workdir, steps * config.batch_size)
        eigenspaces = EigenspaceLog(workdir, config.record_every, config.epochs)
        progress = Progress(config.epochs, steps, config.batch_size)
        callbacks = [clock.watch(progress, "callbacks"), clock.watch(log, "callbacks")]
        callbacks.append(clock.watch(eigenspaces, "records"))
        if tensorboard:
            callbacks.append(clock.watch(TensorBoardLog(workdir, log, eigenspaces), "records"))
        parts = {"log": log, "eigenspaces": eigenspaces, "progress": progress, "clock": clock}
        identity = {"config": config.fingerprint, "seed": config.seed, "data": data.fingerprint}
        keeper = Checkpoints(workdir, identity, parts, checkpoint_minutes, interruption)
        callbacks.append(clock.watch(keeper, "checkpoints"))
        checkpoint = checkpoints.latest(workdir, identity)
        write_config(workdir, config)
        keras.utils.set_random_seed(config.seed)
        model = SiameseModel(config, data.x_train, data.mean, data.std)
        done = checkpoint.steps if checkpoint else 0
        model.compile(steps_per_execution=_largest_divisor(math.gcd(steps, done), STEPS_PER_EXECUTION))
        model.rank_every = min(model.rank_every, steps)
        probed = probed_model(model.backbone, model.projector, reuse=config.projector_layers > 2)
        probes = (*probed.output, "knn")
        untrained = model.backbone.get_weights()
        if checkpoint:
            keeper.restore(model, checkpoint)
    precision = devices.resolve_precision(config.precision)
    parameters = sum(math.prod(v.shape) for v in model.trainable_variables)
    _announce(config, data, workdir, precision, parameters)
    if done:
        print(f"resumed  after step {done:,} of {config.epochs * steps:,}", flush=True)
    with clock.part("compile"):
        forward = forward_seconds(config, probed, data)
    if forward is not None:
        share = 1 - done / (config.epochs * steps)
        _announce_time(share * training_seconds(config, forward, len(data.x_train)))

    with clock.part("steps"), interruption.deferred():
        _fit(model, config, len(data.x_train), done, callbacks)
    clock.move(progress.compile_seconds, "steps", "compile")
    weights = digest(model)
    accuracy = dict.fromkeys(probes) if keeper.diverged else _probe(probed, data, config, probes, clock)
    with clock.part("records"), _or_advice(workdir):
        export_encoder(model.backbone, config.width, workdir / FILENAME)
    if config.probe_untrained:
        model.backbone.set_weights(untrained)
        accuracy["untrained_linear"] = _probe(probed, data, config, ("linear",), clock)["linear"]
    result = Result(
        config=config.to_dict(),
        accuracy=accuracy,
        collapsed=log.collapsed,
        diverged=keeper.diverged,
        monitor={name: _or_none(value) for name, value in log.row.items() if name != "epoch"},
        seconds=clock.total(),
        images_per_second=round(progress.images_per_second, 1),
        parameters=parameters,
        environment=devices.environment(precision),
        dataset=data.describe(),
        weights=weights,
        commit=commit(),
    )
    with _or_advice(workdir):
        result.write(workdir)
    if not keeper.diverged:
        checkpoints.delete(workdir)
    return result


@contextmanager
def _or_advice(workdir: Path) -> Iterator[None]:
    """One clear line where the disk refuses the last records."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write the records to {workdir} ({error.strerror}); make room, then give the same "
            "command: it goes on from the last checkpoint"
        ) from None


def _fit(
    model: SiameseModel, config: Config, images: int, done: int, callbacks: list[keras.callbacks.Callback]
) -> None:
    """Trains from step `done` on.

    The rest of an interrupted epoch has a `fit` of its own: Keras takes the first epoch's length for all.
    """
    steps = images // config.batch_size
    epoch, position = divmod(done, steps)
    whole = epoch + (position > 0)
    for first, last, skipped in ((epoch, whole, position), (whole, config.epochs, 0)):
        if first < last and not model.stop_training:
            model.fit(
                batches(images, config.batch_size, config.seed, first, skipped),
                steps_per_epoch=steps - skipped,
                initial_epoch=first,
                epochs=last,
                shuffle=False,
                verbose=0,
                callbacks=callbacks,
            )


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
