"""The command `embed`: writes the features of images, their neighbours, and a page with a map of them."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfsup import cli
from selfsup.commands.run import import_train
from selfsup.utils.clock import duration
from selfsup.utils.errors import InputError
from selfsup.utils.files import user_path
from selfsup.utils.interrupts import Interrupted, Interruption
from selfsup.utils.options import Option
from selfsup.utils.outputs import output_file, writing
from selfsup.utils.status import StatusLine
from selfsup.utils.text import counted

if TYPE_CHECKING:
    from selfsup.analysis.embedding import Embedding

SUFFIXES = (".npz", ".csv")

ABOUT = """\
Writes the features of images by the encoder of a run, and a page with a map of them.

  {program} --run=runs/mine --images=photos/ --out=features.npz
  {program} --run=runs/mine --images=x.npy --out=features.csv --neighbours=5
  {program} --run=runs/mine --images=photos/ --page=map.html"""

OWN = {
    "run": (Option("folder of a run, or an encoder.keras", str), None),
    "images": (Option("folder of image files, or an .npz or .npy of images", str), None),
    "out": (Option("the .npz or .csv file to write", str), "features.npz"),
    "neighbours": (Option("also write the N nearest neighbours of each image", int, "none", low=1), None),
    "page": (Option("also write an .html page with a map and neighbours", str, "none"), None),
    "skip_broken": (Option("leave out image files that cannot be decoded", bool), False),
}


def execute(values: dict[str, Any], _: dict[str, Any]) -> int:
    """Executes the command with its own flags; returns the exit status."""
    out = output_file("out", values["out"], SUFFIXES, values["images"])
    page = None if values["page"] is None else output_file("page", values["page"], (".html", ".htm"))
    if not user_path("images", values["images"]).exists():
        raise InputError(f"there is no folder or file {values['images']}; check --images")
    try:
        with Interruption():
            return embed(values, out, page)
    except Interrupted as stop:
        print(f"\n{stop}; no incomplete file was written", file=sys.stderr)
        return stop.status


def embed(values: dict[str, Any], out: Path, page: Path | None) -> int:
    """Computes and writes the features, then the page; returns the exit status."""
    import_train()  # reports a missing backend
    from selfsup.analysis.embedding import embed_source
    from selfsup.analysis.encoder import load_encoder
    from selfsup.analysis.sources import open_source
    from selfsup.data.images import printable

    encoder = load_encoder(values["run"])
    source = open_source(values["images"], encoder.image_size)
    if len(source) < 2 and (values["neighbours"] or page):
        raise InputError(f"{values['images']} has one image; neighbours and a page need at least two")
    images = printable(values["images"])
    print("; ".join([f"{counted(len(source), 'image')} in {images}", *source.notes]), flush=True)
    status, began = StatusLine(), time.perf_counter()

    def show(done: int) -> None:
        seconds = time.perf_counter() - began
        left = duration(seconds / done * (len(source) - done))
        status.show(f"features {done:,}/{len(source):,}  {done / seconds:.0f} images/s  {left} left")

    result = embed_source(encoder, source, values["skip_broken"], show)
    seconds = time.perf_counter() - began
    skipped = len(source) - len(result)
    status.finish(
        f"features of {counted(len(result), 'image')}, {result.features.shape[1]} each, "
        f"in {duration(seconds)}" + (f"; {skipped:,} broken left out" if skipped else "")
    )
    if values["neighbours"]:
        status.show("neighbours")
        result = result.with_neighbours(values["neighbours"])
    with writing("out", out):
        result.write(out)
    status.finish(f"{out}: {_describe(result)}")
    if page is not None:
        from selfsup.analysis.page import write_page

        title = f"Features of {images} by {printable(values['run'])}"
        with writing("page", page):
            write_page(page, result, source, title, lambda share: status.show(f"page {share:.0%}"))
        status.finish(f"{page}: map and neighbours; open it in a browser")
    return 0


def _describe(result: "Embedding") -> str:
    """Returns what is in the file, as text."""
    arrays = ["features", "names"]
    arrays += ["labels"] if result.labels is not None else []
    if result.neighbours is not None:
        arrays.append(f"{result.neighbours.shape[1]} neighbours each")
    return ", ".join(arrays)


def main(argv: Sequence[str]) -> int:
    """Runs the command line `argv`, program name first, and returns its exit status."""
    return cli.main(cli.CommandLine(ABOUT, OWN, fields=(), required=("run", "images")), execute, argv)
