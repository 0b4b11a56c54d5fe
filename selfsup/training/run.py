"""A run: prepare, pre-train, evaluate, record."""

import dataclasses
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import keras

from selfsup.analysis.encoder import export_encoder
from selfsup.applicable import check_components
from selfsup.backend.devices import environment, keep_freed_memory, make_deterministic
from selfsup.backend.machines import Machines
from selfsup.backend.parallel import Devices
from selfsup.backend.settings import check_settings
from selfsup.collapse import Collapsed
from selfsup.config import Config
from selfsup.data.dataset import Dataset
from selfsup.losses import Loss
from selfsup.model import Views
from selfsup.networks.backbones import Backbone
from selfsup.records import checkpoints
from selfsup.records.results import NO_LABELS, RESULT, Result, is_complete, read_result
from selfsup.records.workdir import ENCODER, IMAGES, check_config, cleared, owned, write_config
from selfsup.training.announce import announce
from selfsup.training.callbacks import import_writer
from selfsup.training.components import Components
from selfsup.training.context import Context, RunOptions
from selfsup.training.evaluate import evaluate
from selfsup.training.figures import draw
from selfsup.training.initial import InitialWeights
from selfsup.training.loading import load
from selfsup.training.prepared import Prepared
from selfsup.training.pretrain import identity_of, pretrain, set_up
from selfsup.training.state import digest
from selfsup.utils.clock import Clock
from selfsup.utils.errors import InputError
from selfsup.utils.files import or_warning, user_path
from selfsup.utils.interrupts import Interruption
from selfsup.utils.streams import tolerant_output

KEPT_BYTES = 500_000_000
"""Largest checkpoint that is kept after the end of a run."""


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
    optimizer: keras.optimizers.Optimizer | None = None,
    init_from: str | Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    keep_checkpoint: bool = True,
    stop_on_collapse: bool = False,
) -> Result:
    """Pre-trains a siamese network, probes it and records the result.

    An interrupted run resumes from its last checkpoint. A finished run is not repeated: its result is read.
    With more epochs it continues, and its results are bit-identical to those of a run that had them from the
    start; if only `probe_epochs` or `probe_untrained` differ, only the evaluation is repeated. Both need the
    last checkpoint of the run.

    The run writes config.json, log.csv, timing.csv, eigenspace.npz, dynamics.npz, encoder.keras, figures and,
    last, result.json to `workdir`. The folder also holds checkpoints; after training, only the last one, if
    `keep_checkpoint` is true.

    Args:
        config: the settings of the run.
        workdir: folder of the run, by default `config.default_workdir`. Only machine 1's is used.
        tensorboard: whether to write the scalars for TensorBoard too, in `workdir`.
        checkpoint_minutes: minutes between two checkpoints inside an epoch. Every epoch ends with one.
        overwrite: whether to delete a run that `workdir` holds, and start again.
        devices: number of devices of each machine that share the batches, or "all". A run may resume with
            another number.
        machine: "I/N" for the I-th of N machines that share the run (JAX); each makes this call.
        coordinator: HOST:PORT of machine 1, as the others reach it.
        data: images, and labels if there are any, instead of `config.dataset`.
        backbone, augmentation, loss: see `SiameseModel`; the defaults are the paper's. A backbone that is a
            model is copied; its own weights do not change.
        optimizer: a new Keras optimizer, instead of SGD with the config's rates, penalties and schedule.
        init_from: folder of another run with the same backbone and projector, whose last checkpoint has the
            weights to start from.
        callbacks: Keras callbacks, called after the records are written and before a checkpoint. The state of
            a callback with `state() -> dict of arrays` and `restore(state)` is saved in the checkpoints.
        keep_checkpoint: whether to keep the last checkpoint of the finished run, if it has at most 500 MB.
        stop_on_collapse: whether the run ends at the first epoch after which it has collapsed, without an
            evaluation or a result. A run that had collapsed by its last checkpoint ends before it trains.

    Returns:
        The result, as stored in `result.json`.

    Raises:
        InputError: the data, devices, machines, workdir or its checkpoints cannot be used, or tensorboard is
            not installed (before training); or the disk is full (after training).
        Interrupted: SIGINT, SIGTERM or SIGHUP stopped the run; its state is saved.
        Collapsed: the run has collapsed, and `stop_on_collapse` is true; its state is saved.

    Example:
        >>> config = Config(method="byol", dataset="shapes", width=16, epochs=3)
        >>> result = run(config, "runs/byol")  # doctest: +SKIP
        >>> result.accuracy  # in percent  # doctest: +SKIP
        {'linear': ..., 'knn': ...}
    """
    if data is not None:
        config = dataclasses.replace(config, dataset=data.name, image_size=data.image_size)
    check_components(config, augmentation, loss)
    options = RunOptions(tensorboard, checkpoint_minutes, overwrite, callbacks, stop_on_collapse)
    workdir = config.default_workdir if workdir is None else user_path("workdir", str(workdir))
    check_settings()
    keep_freed_memory()
    if config.deterministic:
        make_deterministic()
    machines = Machines.connect(machine, coordinator)
    chosen = machines.together(lambda: Devices(devices, machines))
    machines.together(lambda: chosen.check(config))
    initial = machines.together(lambda: None if init_from is None else InitialWeights.read(init_from))
    components = machines.together(lambda: Components(backbone, augmentation, loss, optimizer, initial))
    with ExitStack() as stack:
        stack.enter_context(tolerant_output())
        workdir = stack.enter_context(machines.own_folder(workdir))
        machines.together(lambda: stack.enter_context(owned(workdir, config, overwrite)))
        interruption = stack.enter_context(Interruption())
        context = Context(workdir, machines, chosen, Clock(), interruption)
        with context.clock.phase("load"):
            loaded = machines.together(lambda: load(config, workdir, data))
        if not overwrite:
            machines.share(workdir, [RESULT])
            finished = machines.together(lambda: _finished(workdir, config, loaded, components, machines))
            if finished is not None and is_complete(finished, config):
                shutil.rmtree(workdir / IMAGES, ignore_errors=True)
                print(f"already finished in {workdir}; nothing to do")
                return finished
        try:
            prepared = _prepare(config, loaded, components, context, options)
            pretrain(config, prepared.setup, prepared.data, context)
        except Collapsed:
            if machines.index == 0:
                with or_warning("the figures"), suppress(InputError):  # records that were not written
                    draw(config.title, workdir)  # they show when the directions were lost
            raise
        weights = digest(prepared.setup.model)
        accuracy = evaluate(prepared, prepared.setup.checkpointer.diverged)
        return _record(prepared, accuracy, weights, KEPT_BYTES if keep_checkpoint else 0)


def _finished(
    workdir: Path, config: Config, data: Dataset, components: Components, machines: Machines
) -> Result | None:
    """Returns the result of the finished run in a folder, or None.

    Raises:
        InputError: the run had another config, seed, data, components, backend or precision, or it lacks an
            evaluation and the checkpoint from which to make it.
    """
    finished = read_result(workdir)
    if finished is None:
        return None
    if machines.index == 0:  # the only one that has the checkpoints, which allow more epochs
        check_config(workdir, finished.config, config)
    found = {"data": finished.dataset.get("fingerprint", "unknown"), **finished.swapped}
    found |= {name: finished.environment.get(name, "unknown") for name in ("backend", "precision")}
    wanted = identity_of(config, data, components)
    del wanted["config"], wanted["seed"]
    checkpoints.check_same(workdir, found, wanted)
    if machines.index == 0 and not is_complete(finished, config) and not checkpoints.found(workdir):
        raise InputError(
            f"workdir {workdir} holds a finished run without a checkpoint, which another evaluation needs; "
            "choose another --workdir, or start again with --overwrite"
        )
    return finished


def _prepare(
    config: Config, data: Dataset, components: Components, context: Context, options: RunOptions
) -> Prepared:
    """Builds or restores the model, and prints what will run."""
    workdir, machines = context.workdir, context.machines
    with context.clock.phase("load"), ExitStack() as stack:
        identity = identity_of(config, data, components)
        same = {"number of devices": context.devices.size, "stop_on_collapse": options.stop_on_collapse}
        machines.check_same({**identity, **same})
        if options.overwrite:
            stack.enter_context(cleared(workdir))
        machines.share(workdir, [path.name for path in checkpoints.found(workdir)])
        if options.tensorboard:
            machines.together(import_writer)
        setup = set_up(config, data, context, components, options)
        machines.together(lambda: write_config(workdir, config))
        if setup.done < setup.steps and (workdir / RESULT).exists():  # of fewer epochs
            (workdir / ENCODER).unlink(missing_ok=True)
            (workdir / RESULT).unlink()
    prepared = Prepared(config, data, components, context, setup)
    announce(prepared)
    return prepared


def _record(prepared: Prepared, accuracy: dict[str, float | None], weights: str, keep: int) -> Result:
    """Writes the encoder, the figures and, last, the result. Then deletes checkpoints unless it diverged.

    The last checkpoint stays if it has at most `keep` bytes.
    """
    config, context, setup = prepared.config, prepared.context, prepared.setup
    workdir, diverged, speed = context.workdir, setup.checkpointer.diverged, setup.progress.images_per_second
    with context.clock.phase("records"), _or_advice(workdir):
        if not diverged:
            data, path = prepared.data, workdir / ENCODER
            export_encoder(setup.model.backbone, path, data.mean, data.std, data.image_size)
        if context.machines.index == 0:
            draw(config.title, workdir)
    result = Result(
        config=config.to_dict(),
        accuracy=accuracy,
        collapsed=setup.log.collapsed,
        diverged=diverged,
        monitor={name: value if math.isfinite(value) else None for name, value in setup.log.row.items()},
        seconds=context.clock.total(),
        images_per_second=speed and round(speed, 1),
        parameters=prepared.parameters,
        environment=environment(context.devices.describe(), prepared.precision),
        dataset=prepared.data.describe(),
        weights=weights,
        commit=context.commit,
        swapped=prepared.components.described,
        skipped={} if prepared.data.labelled else {"linear": NO_LABELS, "knn": NO_LABELS},
    )
    with _or_advice(workdir):
        result.write(workdir)
    if not diverged:
        checkpoints.delete(workdir, keep)
    shutil.rmtree(workdir / IMAGES, ignore_errors=True)
    return result


@contextmanager
def _or_advice(workdir: Path) -> Iterator[None]:
    """Turns an `OSError` inside the block into an `InputError` that says how to resume."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write the records to {workdir} ({error.strerror}); free some disk space, then the same "
            "command (without --overwrite) resumes from the last checkpoint"
        ) from None
