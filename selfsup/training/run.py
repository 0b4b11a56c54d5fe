"""One run: prepare, pre-train, evaluate, record."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras

from selfsup.analysis.encoder import export_encoder
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
from selfsup.model import Loss, Views
from selfsup.networks.backbones import Backbone
from selfsup.records import checkpoints
from selfsup.records.results import RESULT, Result, commit, read_result
from selfsup.records.workdir import ENCODER, clear, owned, write_config
from selfsup.training.context import Context
from selfsup.training.evaluate import evaluate
from selfsup.training.figures import draw
from selfsup.training.parts import Parts, check_same
from selfsup.training.pretrain import Pretrained, Start, identity_of, pretrain, start
from selfsup.training.resume import digest
from selfsup.utils.clock import Clock
from selfsup.utils.errors import InputError
from selfsup.utils.interrupts import Interruption


def run(
    config: Config,
    workdir: str | Path | None = None,
    tensorboard: bool = False,
    checkpoint_minutes: float = 10.0,
    overwrite: bool = False,
    devices: int | str = 1,
    machine: str | None = None,
    coordinator: str | None = None,
    *,
    data: Dataset | None = None,
    backbone: Backbone | None = None,
    augmentation: Views | None = None,
    loss: Loss | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Result:
    """Pre-trains, probes and records; resumes the same run if it was stopped; only reads a finished one.

    Leaves in `workdir`: config.json, log.csv, timing.csv, eigenspace.npz, encoder.keras, figures and, last of
    all, result.json. While it trains, and after a divergence, its checkpoints are there as well.

    Args:
        config: what to run.
        workdir: where; default `config.default_workdir`. Of several machines the first one's counts.
        tensorboard: whether to write the scalars for TensorBoard as well, below `workdir`.
        checkpoint_minutes: minutes between two checkpoints inside an epoch; its end always has one.
        overwrite: whether to delete what `workdir` holds of this run or another, and start again.
        devices: devices of each machine that share the batches, or "all". A run may resume with another
            number of them.
        machine: "I/N" where N machines make the run together (JAX), each by this call with its own I.
        coordinator: HOST:PORT of the first machine, as the others reach it.
        data: images and labels in memory, instead of `config.dataset`.
        backbone, augmentation, loss: see `SiameseModel`; the defaults are the paper's.
        callbacks: the user's. They are called after the records' and before the checkpoints'; one with
            `state() -> dict of arrays` and `restore(state)` is kept in the checkpoints.

    Returns:
        The record, as `result.json` has it.

    Raises:
        InputError: before any training: the data, devices or machines cannot be used, or the workdir, its
            checkpoints or TensorBoard cannot.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; the state is saved.
    """
    if data is not None:
        config = dataclasses.replace(config, dataset=data.name)
    workdir = Path(workdir or config.default_workdir)
    parts = Parts(backbone, augmentation, loss)
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
            if (finished := _finished(workdir, data, parts)) is not None:
                print(f"finished before, in {workdir}; nothing to do")
                return finished
        context = Context(workdir, machines, chosen, Clock(), interruption)
        options = Options(tensorboard, checkpoint_minutes, overwrite, callbacks)
        prepared = _prepare(config, data, parts, context, options)
        trained = pretrain(prepared.config, prepared.start, len(prepared.data.x_train), context)
        weights = digest(trained.model)
        accuracy = evaluate(config, prepared.data, trained, context.clock)
        return _record(prepared, trained, accuracy, weights)


@dataclass(frozen=True)
class Options:
    """How a run is made; nothing here changes its result."""

    tensorboard: bool
    checkpoint_minutes: float
    overwrite: bool
    callbacks: Sequence[keras.callbacks.Callback]


@dataclass(frozen=True)
class Prepared:
    """A run before its first step."""

    config: Config
    data: Dataset
    parts: Parts
    context: Context
    start: Start

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(math.prod(v.shape) for v in self.start.model.trainable_variables)

    @property
    def precision(self) -> str:
        """The dtype policy."""
        return resolve_precision(self.config.precision)


def _finished(workdir: Path, data: Dataset | None, parts: Parts) -> Result | None:
    """The result of a finished run in a folder.

    Raises:
        InputError: it had other data or parts.
    """
    finished = read_result(workdir)
    if finished is None:
        return None
    found, wanted = dict(finished.swapped), parts.describe()
    if data is not None:
        found["data"], wanted["data"] = finished.dataset["fingerprint"], data.fingerprint
    if different := check_same(found, wanted):
        raise InputError(f"workdir {workdir} holds another run ({different}); choose another workdir")
    return finished


def _prepare(
    config: Config,
    data: Dataset | None,
    parts: Parts,
    context: Context,
    options: Options,
) -> Prepared:
    """Loads the data, builds and restores the model, and says what is going to happen."""
    workdir, machines = context.workdir, context.machines
    with context.clock.phase("load"):
        loaded = machines.together(lambda: _load(config, data))
        identity = identity_of(config, loaded, parts)
        machines.check_same({**identity, "number of devices": context.devices.size})
        if options.overwrite:
            clear(workdir)
        machines.share(workdir, [path.name for path in checkpoints.found(workdir)])
        begun = start(
            config, loaded, context, parts, options.callbacks, options.tensorboard, options.checkpoint_minutes
        )
        write_config(workdir, config)
    prepared = Prepared(config, loaded, parts, context, begun)
    _announce(prepared)
    return prepared


def _load(config: Config, data: Dataset | None) -> Dataset:
    data = data or load_dataset(config.dataset, config.data_dir)
    if len(data.x_train) < config.batch_size:
        raise InputError(
            f"batch_size {config.batch_size} is larger than the {len(data.x_train)} training images"
        )
    return data


def _record(
    prepared: Prepared, trained: Pretrained, accuracy: dict[str, float | None], weights: str
) -> Result:
    """Writes encoder, figures and, last, the result; deletes the checkpoints of a run that ended well."""
    config, context, workdir = prepared.config, prepared.context, prepared.context.workdir
    with context.clock.phase("records"), _or_advice(workdir):
        export_encoder(trained.model.backbone, workdir / ENCODER)
        if context.machines.index == 0:
            draw(config.title, workdir)
    result = Result(
        config=config.to_dict(),
        accuracy=accuracy,
        collapsed=trained.collapsed,
        diverged=trained.diverged,
        monitor={
            name: value if math.isfinite(value) else None
            for name, value in trained.monitor.items()
            if name != "epoch"
        },
        seconds=context.clock.total(),
        images_per_second=round(trained.images_per_second, 1),
        parameters=prepared.parameters,
        environment=environment(context.devices.describe(), prepared.precision),
        dataset=prepared.data.describe(),
        weights=weights,
        commit=commit(),
        swapped=prepared.parts.describe(),
    )
    with _or_advice(workdir):
        result.write(workdir)
    if not trained.diverged:
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
            "command: it resumes from the last checkpoint"
        ) from None


def _announce(prepared: Prepared) -> None:
    config, data, context, begun = prepared.config, prepared.data, prepared.context, prepared.start
    method = METHODS[config.resolved.method]
    details = [config.title, "EMA target" if config.resolved.ema else "no EMA"]
    details += ["symmetric W_p"] if config.symmetric else []
    swapped = prepared.parts.describe()
    network = swapped.get("backbone", f"ResNet-18 of width {config.width}")
    print(f"method   {', '.join(details)}: {method.summary}")
    print(f"data     {data.name}: {len(data.x_train)} training and {len(data.x_test)} test images, ", end="")
    print(f"{data.classes} classes{'; ' + data.note if data.note else ''}")
    print(f"network  {network}, {prepared.parameters:,} trained parameters")
    for name in ("augmentation", "loss"):
        if name in swapped:
            print(f"{name[:8]:9}{swapped[name]}")
    print(f"device   {context.devices.describe()}, {keras.backend.backend()}, {prepared.precision}")
    if lacks_onednn():
        print("         import selfsup before tensorflow and keras: on this CPU that triples the speed")
    print(f"workdir  {context.workdir}", flush=True)
    if begun.done:
        print(f"resumed  after step {begun.done:,} of {begun.steps:,}", flush=True)
