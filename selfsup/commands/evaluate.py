"""The command `evaluate`: probes, k-NN and fine-tuning of a finished run on a share of the labels."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selfsup import cli
from selfsup.commands.run import import_train
from selfsup.config import ADDED
from selfsup.records.evaluations import EVALUATION, EVALUATION_FIGURE, Evaluations, Summary, summarise
from selfsup.records.results import Result, read_result
from selfsup.records.workdir import LOCK
from selfsup.utils.errors import InputError
from selfsup.utils.files import held, user_path
from selfsup.utils.interrupts import Interrupted, Interruption
from selfsup.utils.options import Option
from selfsup.utils.outputs import output_folder
from selfsup.utils.status import StatusLine
from selfsup.utils.text import counted

ABOUT = """\
Evaluates the encoder of a finished run on some or all of the labels: by linear probe, k-NN and fine-tuning.

  {program} --run=runs/mine                                      1 %, 10 % and all of the labels
  {program} --run=runs/mine --only=linear,knn --dataset=photos/  on other images
  {program} --run=runs/mine --only=finetune --from_scratch       beside training from random weights"""

OWN = {
    "run": (Option("folder of a finished run", str), None),
    "only": (Option("evaluations, separated by commas", str), "linear,knn,finetune"),
    "labels": (Option("fractions of the training labels, separated by commas", str), "0.01,0.1,1"),
    "seeds": (Option("repetitions, each with another choice of labelled images", int, low=1), 3),
    "probe": (Option("settings of the linear probe: paper, tian, or paper,tian", str), "paper"),
    "k": (Option("neighbours of the k-NN", int, low=1), 200),
    "temperature": (Option("temperature of the k-NN", float, low=0, open_low=True), 0.1),
    "epochs": (Option("epochs of fine-tuning", int, low=1), 30),
    "least_steps": (Option("minimum steps of fine-tuning; few labels get more epochs", int, low=1), 500),
    "learning_rate": (Option("first learning rate of fine-tuning", float, low=0, open_low=True), 0.025),
    "from_scratch": (Option("also train the network on the labels from random weights", bool), False),
    "from_untrained": (Option("also evaluate a random network by linear probe and k-NN", bool), False),
    "dataset": (Option("images with labels, as in selfsup run", str, "the run's"), None),
    "data_dir": (Option("folder of prepared TFDS data", str, "the run's"), None),
    "out": (Option("folder of evaluation.json and evaluation.png", str, "the run's"), None),
    "deterministic": (Option("use only deterministic operations (slower on GPUs)", bool), False),
}


def execute(values: dict[str, Any], _: dict[str, Any]) -> int:
    """Executes the command with its own flags; returns the exit status."""
    run = _finished(values["run"])
    checked = {
        "only": _names("only", values["only"], ("linear", "knn", "finetune")),
        "probes": _names("probe", values["probe"], ("paper", "tian")),
        "labels": _shares(values["labels"]),
    }
    folder = output_folder("out", values["run"] if values["out"] is None else values["out"])
    try:
        with Interruption():
            return evaluate(values, checked, run, folder)
    except Interrupted as stop:
        print(f"\n{stop}; the same command adds what is missing in {folder}", file=sys.stderr)
        return stop.status


def evaluate(values: dict[str, Any], checked: dict[str, Any], run: Result, folder: Path) -> int:
    """Evaluates, writes and prints; returns the exit status."""
    import_train()  # reports a missing backend
    from selfsup.analysis import evaluation, few_labels, finetune, plots
    from selfsup.analysis.encoder import load_encoder
    from selfsup.backend.devices import keep_freed_memory, make_deterministic, resolve_precision
    from selfsup.backend.settings import check_settings
    from selfsup.data.load import load_dataset

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it takes each fine-tuning for a retracing
    check_settings()
    keep_freed_memory()
    if values["deterministic"]:
        make_deterministic()
    config = {**ADDED, **run.config}
    encoder = load_encoder(values["run"])
    name = config["dataset"] if values["dataset"] is None else values["dataset"]
    data = load_dataset(
        name,
        config["data_dir"] if values["data_dir"] is None else values["data_dir"],
        image_size=encoder.image_size,
        cache_dir=config.get("cache_dir"),
        skip_broken=config.get("skip_broken", False),
    )
    if values["dataset"] is None and data.fingerprint != run.dataset.get("fingerprint", data.fingerprint):
        raise InputError(
            f"{name} does not hold the images of the run in {values['run']}, so that its test images may be "
            f"among those trained on; name the images to evaluate on, such as --dataset={name}"
        )
    options = evaluation.Options(
        **checked,
        **{name: values[name] for name in ("seeds", "k", "temperature", "from_scratch", "from_untrained")},
        recipe=finetune.Recipe(
            values["learning_rate"], epochs=values["epochs"], least_steps=values["least_steps"]
        ),
        crop_min=config["crop_min"],
        flip_rate=config["flip_rate"],
        precision=resolve_precision(config["precision"]),
    )
    bench = evaluation.Bench(encoder, data, options)
    title = config["experiment"] or config["method"]
    described = {"title": title, "seed": config["seed"], "weights": run.weights}
    print(f"{data.name}: {data.summary}" + (f"; {data.note}" if data.note else ""), flush=True)
    with _kept(folder):
        status, evaluations = StatusLine(), Evaluations(folder / EVALUATION, described)
        found, new = evaluation.evaluate(bench, evaluations, status.show, status.finish)
        status.finish(f"{counted(len(found), 'measurement')}, {new} new" if new else "all measured before")
        summaries = summarise(found)
        figure = few_labels.accuracies(f"{title} on {data.name}", summaries)
        plots.save(figure, folder / Path(EVALUATION_FIGURE).stem)
    print(table(f"test accuracy of {title} on {data.name} in percent", summaries))
    print(f"{folder / EVALUATION} and {folder / EVALUATION_FIGURE}")
    return 0


@contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Creates a folder, and keeps other processes from writing to it inside the block.

    Raises:
        InputError: another process is using it, or a file in it cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
        with held(folder / LOCK, "out"):
            yield
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}); choose another --out") from None


def table(title: str, summaries: Sequence[Summary]) -> str:
    """Returns a table as text: evaluations as rows, shares of the labels as columns."""
    images = sorted({(one.key.labels, one.key.images) for one in summaries})
    cells = {(one.key.name, one.key.labels): _cell(one) for one in summaries}
    names = list(dict.fromkeys(one.key.name for one in summaries))
    lines = [["", *(f"{share * 100:g} % ({count:,})" for share, count in images)]]
    lines += [[name, *(cells[name, share] for share, _ in images)] for name in names]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["   ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    seeds = max(len(one.seeds) for one in summaries)
    note = f", mean and deviation of {seeds} seeds" if seeds > 1 else ""
    return "\n  ".join([f"{title}{note}:", *rows])


def _cell(summary: Summary) -> str:
    return f"{summary.mean:.2f}" + ("" if summary.std is None else f" \N{PLUS-MINUS SIGN} {summary.std:.2f}")


def _finished(run: str) -> Result:
    """Returns the result of the run in a folder.

    Raises:
        InputError: there is no finished run, or it diverged.
    """
    result = read_result(user_path("run", run))
    if result is None:
        raise InputError(f"{run} holds no finished run; finish it with selfsup run, or check --run")
    if result.diverged:
        raise InputError(f"the run in {run} diverged, so it has no encoder")
    return result


def _names(flag: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names in a list with commas, in the order of `known`."""
    given = cli.split_names(flag, text)
    if unknown := [name for name in given if name not in known]:
        raise InputError(f"{flag} must list some of {', '.join(known)}, not {unknown[0]!r}")
    return tuple(name for name in known if name in given)


def _shares(text: str) -> tuple[float, ...]:
    """Returns the shares of the labels in ascending order.

    Example:
        >>> _shares("1,0.1")
        (0.1, 1.0)
    """
    try:
        shares = sorted({float(share) for share in text.split(",")})
    except ValueError:
        shares = []
    if not shares or not all(0 < share <= 1 for share in shares):
        raise InputError(f"labels must be shares above 0 and up to 1, such as 0.01,0.1,1, not {text!r}")
    return tuple(shares)


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv`, program name first, and returns its exit status."""
    return cli.main(cli.CommandLine(ABOUT, OWN, fields=(), required=("run",)), execute, argv)
