"""The beginning of a report: its scale, and what may be compared."""

from collections.abc import Iterable, Sequence

from selfsup.records.results import Result
from selfsup.reproduction.provenance import describe_scale, is_paper_scale, scale_of
from selfsup.utils.clock import duration
from selfsup.utils.text import counted


def heading(results: Sequence[Result], dataset: str) -> Iterable[str]:
    """Yields the blocks of Markdown at the beginning of a report.

    Args:
        results: the finished runs.
        dataset: "stl10" or "cifar10", see `provenance.dataset_of`.
    """
    if not results:
        yield "# Report: no run has finished"
        return
    scale = describe_scale(results)
    if dataset == "stl10":
        yield "# Report on STL-10"
        yield (
            f"These accuracies come from: {scale}. The published ones come from Tian et al. 2021: "
            "ResNet-18 of width 64, 100 epochs, batch 128, images of 96x96 pixels that are not "
            "normalised, and a different probe. Only runs of the preset stl10 are comparable to them. "
            "The claims are about CIFAR-10; a verdict says what these runs show, and no more."
        )
    elif is_paper_scale(results):
        yield "# Report at the paper's scale"
    else:
        yield "# NOT the paper's scale: a report of smaller or other runs"
        mixed = len(set(map(scale_of, results))) > 1
        rows = ", and rows only where their settings are the same" if mixed else "; compare the rows"
        yield (
            f"> **These accuracies do not reproduce the published ones.** They come from: {scale}. "
            "The published ones come from ResNet-18 of width 64, 100 epochs, batch 128, on CIFAR-10. "
            f"Do not compare them with the published values{rows} with each other. "
            "A verdict says what these runs show at their scale, and no more."
        )
    seconds = sum(result.seconds["total"] for result in results)
    yield f"{counted(len(results), 'finished run')}, {duration(seconds)} in all."
