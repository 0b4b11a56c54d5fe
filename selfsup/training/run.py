"""One run: load, pre-train, probe, record."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import keras

from selfsup.analysis import probe
from selfsup.analysis.encoder import FILENAME, export_encoder, probed_model
from selfsup.backend.devices import (
    environment,
    keep_freed_memory,
    lacks_onednn,
    make_deterministic,
    resolve_precision,
)
from selfsup.backend.machines import Machines
from selfsup.backend.parallel import Devices
from selfsup.config import METHODS, Config
from selfsup.data.datasets import Dataset, load_dataset
from selfsup.records import checkpoints
from selfsup.records.results import RESULT, Result, commit, read_result
from selfsup.records.workdir import clear, owned, write_config
from selfsup.training.estimate import forward_seconds, training_seconds
from selfsup.training.pretrain import Pretraining, Site, identity_of
from selfsup.training.resume import digest
from selfsup.utils.clock import Clock, duration
from selfsup.utils.errors import InputError
from selfsup.utils.interrupts import Interruption

LONG = 2 * 3600


def run(
    config: Config,
    workdir: str | Path | None = None,
    tensorboard: bool = False,
    checkpoint_minutes: float = 10.0,
    overwrite: bool = False,
    devices: int | str = 1,
    machine: str | None = None,
    coordinator: str | None = None,
) -> Result:
    """Pre-trains, probes and records; goes on where the same run was stopped; only reads a finished one.

    Leaves in `workdir`: config.json, log.csv, timing.csv, eigenspace.npz, encoder.keras and, last of all,
    result.json. While it trains, and after a divergence, its checkpoints are there as well.

    Args:
        config: what to run.
        workdir: where; default `config.default_workdir`. Of several machines the first one's counts.
        tensorboard: whether to write the scalars for TensorBoard as well, below `workdir`.
        checkpoint_minutes: minutes between two checkpoints inside an epoch; its end always has one.
        overwrite: whether to delete what is in `workdir` of this run or another, and start anew.
        devices: devices of each machine that share the batches, or "all". A run may go on with another
            number of them.
        machine: "I/N" where N machines make the run together (JAX), each by this call with its own I.
        coordinator: HOST:PORT of the first machine, as the others reach it.

    Returns:
        The record, as `result.json` has it.

    Raises:
        InputError: the data, devices or machines cannot be used, or the workdir, its checkpoints or
            TensorBoard cannot, before any training.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; the state is saved.
    """
    workdir = Path(workdir or config.default_workdir)
    keep_freed_memory()
    if config.deterministic:
        make_deterministic()
    machines = Machines.connect(machine, coordinator)
    chosen = machines.together(lambda: Devices(devices, machines))
    machines.together(lambda: chosen.check(config))
    with ExitStack() as stack:
        workdir = stack.enter_context(machines.own_folder(workdir))
        machines.together(lambda: stack.enter_context(owned(workdir, config, overwrite)))
        interruption = stack.enter_context(Interruption())
        if not overwrite:
            machines.share(workdir, [RESULT])
            if (finished := read_result(workdir)) is not None:
                print(f"finished before, in {workdir}; nothing to do")
                return finished
        site = Site(workdir, machines, chosen, Clock(), interruption)
        with site.clock.part("load"):
            data = machines.together(lambda: _load(config))
        machines.check_same({**identity_of(config, data), "number of devices": chosen.size})
        if overwrite:
            clear(workdir)
        return _run(config, data, site, tensorboard, checkpoint_minutes)


def _load(config: Config) -> Dataset:
    data = load_dataset(config.dataset, config.data_dir)
    if len(data.x_train) < config.batch_size:
        raise InputError(
            f"batch_size {config.batch_size} is larger than the {len(data.x_train)} training images"
        )
    return data


def _run(config: Config, data: Dataset, site: Site, tensorboard: bool, checkpoint_minutes: float) -> Result:
    workdir, clock = site.workdir, site.clock
    with clock.part("load"):
        site.machines.share(workdir, [path.name for path in checkpoints.found(workdir)])
        training = Pretraining(config, data, site, tensorboard, checkpoint_minutes)
        write_config(workdir, config)
        model, log, done = training.model, training.log, training.done
        probed = probed_model(model.backbone, model.projector, reuse=config.projector_layers > 2)
        probes = (*probed.output, "knn")
    precision = resolve_precision(config.precision)
    parameters = sum(math.prod(v.shape) for v in model.trainable_variables)
    _announce(config, data, site, precision, parameters)
    if done:
        print(f"resumed  after step {done:,} of {training.steps:,}", flush=True)
    with clock.part("compile"):
        forward = forward_seconds(config, probed, data)
    if forward is not None:
        share = 1 - done / training.steps
        _announce_time(share * training_seconds(config, forward, len(data.x_train)))

    with clock.part("steps"):
        training.fit()
    clock.move(training.progress.compile_seconds, "steps", "compile")
    diverged = training.keeper.diverged
    weights = digest(model)
    accuracy = dict.fromkeys(probes) if diverged else _probe(probed, data, config, probes, clock)
    with clock.part("records"), _or_advice(workdir):
        export_encoder(model.backbone, config.width, workdir / FILENAME)
    if config.probe_untrained:
        model.backbone.set_weights(training.untrained)
        accuracy["untrained_linear"] = _probe(probed, data, config, ("linear",), clock)["linear"]
    result = Result(
        config=config.to_dict(),
        accuracy=accuracy,
        collapsed=log.collapsed,
        diverged=diverged,
        monitor={name: _or_none(value) for name, value in log.row.items() if name != "epoch"},
        seconds=clock.total(),
        images_per_second=round(training.progress.images_per_second, 1),
        parameters=parameters,
        environment=environment(site.devices.describe(), precision),
        dataset=data.describe(),
        weights=weights,
        commit=commit(),
    )
    with _or_advice(workdir):
        result.write(workdir)
    if not diverged:
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


def _announce(config: Config, data: Dataset, site: Site, precision: str, parameters: int) -> None:
    method = METHODS[config.method]
    details = [config.title, "EMA target" if config.ema else "no EMA"]
    details += ["symmetric W_p"] if config.symmetric else []
    print(f"method   {', '.join(details)}: {method.summary}")
    print(f"data     {data.name}: {len(data.x_train)} training and {len(data.x_test)} test images, ", end="")
    print(f"{data.classes} classes{'; ' + data.note if data.note else ''}")
    print(f"network  ResNet-18 of width {config.width}, {parameters:,} trained parameters")
    print(f"device   {site.devices.describe()}, {keras.backend.backend()}, {precision}")
    if lacks_onednn():
        print("         import selfsup before tensorflow and keras: on this CPU that triples the speed")
    print(f"workdir  {site.workdir}", flush=True)


def _announce_time(seconds: float) -> None:
    print(f"time     about {duration(seconds)} of training, estimated from a forward pass on this machine")
    if seconds > LONG:
        print("         lighter: --preset=lite (width 16, 10 epochs) or --preset=quick (no data needed)")


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
