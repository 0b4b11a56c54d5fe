"""The command `export`: writes the encoder of a run, finished or not, in one of several formats."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from selfsup import cli
from selfsup.commands.run import import_train
from selfsup.config import Config
from selfsup.records import checkpoints
from selfsup.records.checkpoints import Checkpoint
from selfsup.records.results import read_result
from selfsup.records.workdir import CONFIG, ENCODER
from selfsup.utils.errors import InputError
from selfsup.utils.files import user_path
from selfsup.utils.options import Option
from selfsup.utils.outputs import output_file, output_folder, writing

if TYPE_CHECKING:
    from selfsup.analysis.encoder import Encoder
    from selfsup.model import SiameseModel

NAMES = {
    "keras": ENCODER,
    "saved_model": "encoder_saved_model",
    "onnx": "encoder.onnx",
    "tflite": "encoder.tflite",
}
"""File names by format."""

ABOUT = """\
Writes the encoder of a finished run, or that of the last checkpoint of an unfinished one.

  {program} --run=runs/mine                            runs/mine/encoder.keras
  {program} --run=runs/mine --format=onnx --out=birds.onnx"""

OWN = {
    "run": (Option("folder of a run, or an encoder.keras", str), None),
    "out": (
        Option("the file to write; a folder for saved_model", str, "encoder.keras etc. in the run"),
        None,
    ),
    "format": (Option("format of the file", str, choices=tuple(NAMES)), "keras"),
}


def execute(values: dict[str, Any], _: dict[str, Any]) -> int:
    """Executes the command with its own flags; returns the exit status."""
    run, name = user_path("run", values["run"]), values["format"]
    if not run.exists():
        raise InputError(f"there is no folder {run}; check --run")
    folder = run if run.is_dir() else run.parent
    wanted = str(folder / NAMES[name]) if values["out"] is None else values["out"]
    suffixes = () if name == "saved_model" else (f".{name}",)
    out = output_folder("out", wanted) if name == "saved_model" else output_file("out", wanted, suffixes)
    import_train()  # reports a missing backend
    from selfsup.analysis import formats
    from selfsup.analysis.encoder import load_encoder

    formats.check(name)
    result = read_result(folder)
    if run.is_file() or result is not None:
        encoder, origin = load_encoder(run), "the finished run" if run.is_dir() else str(run)
    else:
        encoder, origin = from_checkpoint(run)
    with writing("out", out), cli.silent_stderr():
        formats.write(encoder, out, name)
    print(f"{out}: encoder of {origin}, images to features of length {encoder.dimensions}")
    if name in ("onnx", "tflite"):
        size = encoder.image_size
        print(f"it takes float32 images [N, {size}, {size}, 3] in 0 to 255, which it normalises")
    return 0


def from_checkpoint(run: Path) -> "tuple[Encoder, str]":
    """Builds the encoder of a run's last usable checkpoint.

    Returns:
        The encoder, and a description of the checkpoint.

    Raises:
        InputError: there is no usable checkpoint, the run has the user's own backbone, or its data cannot be
            loaded (their mean and standard deviation belong to the encoder).
    """
    from selfsup.analysis.encoder import Encoder, encoder_model
    from selfsup.backend.devices import jit_compile
    from selfsup.model import SiameseModel
    from selfsup.networks.backbones import in_stock_layers
    from selfsup.training.loading import load

    config = _config(run)
    checkpoint = checkpoints.latest(run, identity={})
    if checkpoint is None:
        raise InputError(
            f"there is no checkpoint in {run} yet; wait for the first, after an epoch at the latest"
        )
    if "backbone" in checkpoint.identity:
        raise InputError(
            f"the run in {run} has a custom backbone ({checkpoint.identity['backbone']}), which its "
            "checkpoints do not hold; finish the run, which writes its encoder"
        )
    try:
        data = load(config, run)
    except InputError as error:
        raise InputError(f"the encoder needs the mean of the training images, but {error}") from None
    if data.fingerprint != checkpoint.identity["data"]:
        raise InputError(f"{config.dataset} no longer holds the images of the run in {run}")
    steps = data.training_images // config.batch_size
    model = SiameseModel(config, mean=data.mean, std=data.std, steps_per_epoch=steps)
    model.compile()
    model.backbone.set_weights(_backbone_weights(model, checkpoint, run))
    backbone = in_stock_layers(model.backbone, "backbone")
    encoder = encoder_model(backbone, data.mean, data.std, data.image_size)
    encoder.compile(jit_compile=jit_compile())
    epoch = checkpoint.steps / steps
    return Encoder(encoder), f"the checkpoint of step {checkpoint.steps:,} (epoch {epoch:.1f})"


def _backbone_weights(model: "SiameseModel", checkpoint: Checkpoint, run: Path) -> list[np.ndarray]:
    """Returns the backbone's weights in a checkpoint, which holds the variables of the model in order."""
    from selfsup.training.state import variables

    saved = list(checkpoint.variables().values())
    places = {id(variable): place for place, variable in enumerate(variables(model).values())}
    weights = [saved[places[id(weight)]] for weight in model.backbone.weights]
    if [array.shape for array in weights] != [tuple(weight.shape) for weight in model.backbone.weights]:
        raise InputError(
            f"the checkpoints in {run} were written with other variables; use the same version of selfsup"
        )
    return weights


def _config(run: Path) -> Config:
    path = run / CONFIG
    try:
        return Config(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise InputError(f"{run} is not the folder of a run: it has no {CONFIG}") from None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is not the config of a run ({error}); check --run") from None


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv`, program name first, and returns its exit status."""
    return cli.main(cli.CommandLine(ABOUT, OWN, fields=(), required=("run",)), execute, argv)
