"""The evaluations of a finished run, `evaluation.json`."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from selfsup.records.results import write_json
from selfsup.utils.errors import InputError, first_line

EVALUATION, EVALUATION_FIGURE = "evaluation.json", "evaluation.png"
SCHEMA = 1


@dataclass(frozen=True)
class Key:
    """What is measured; repetitions differ in the seed only.

    Attributes:
        name: name of the evaluation.
        labels: share of the training labels, in (0, 1].
        images: number of labelled images.
        settings: settings of the evaluation, by name.
        dataset: fingerprint of the dataset.
        encoder: digest of the encoder.
        backend: tensorflow or jax.
    """

    name: str
    labels: float
    images: int
    settings: dict[str, Any]
    dataset: str
    encoder: str
    backend: str

    @property
    def text(self) -> str:
        """The key as text, the same for equal keys."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Measurement:
    """A test accuracy in percent with one seed, and the seconds that it took."""

    key: Key
    seed: int
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Summary:
    """Mean accuracy over the seeds, and its sample standard deviation; None for one seed."""

    key: Key
    seeds: tuple[int, ...]
    mean: float
    std: float | None


def summarise(measurements: Iterable[Measurement]) -> list[Summary]:
    """Returns one summary per key, in the order of the first measurements.

    Example:
        >>> key = Key("knn", 0.1, 10, {"k": 5}, "data", "encoder", "jax")
        >>> (summary,) = summarise([Measurement(key, 0, 70.0, 1.0), Measurement(key, 1, 72.0, 1.0)])
        >>> summary.mean, round(summary.std, 3), summary.seeds
        (71.0, 1.414, (0, 1))
    """
    groups: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault(measurement.key.text, []).append(measurement)
    found = []
    for group in groups.values():
        values = [one.accuracy for one in group]
        deviation = stdev(values) if len(values) > 1 else None
        found.append(Summary(group[0].key, tuple(one.seed for one in group), mean(values), deviation))
    return found


class Evaluations:
    """The measurements in a file, which is written again after each one.

    Args:
        path: the file; it need not exist.
        run: title, seed and weights of the run.

    Raises:
        InputError: the file exists but holds no evaluations.
    """

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        self.path, self.run = path, run
        self.datasets: dict[str, dict[str, Any]] = {}
        self.measurements: list[Measurement] = []
        if path.exists():
            try:
                self._read(json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, TypeError, KeyError, OSError) as error:
                reason = first_line(error)
                raise InputError(
                    f"{path} is not an evaluation.json ({reason}); move it away, or choose another --out"
                ) from None

    def _read(self, record: Any) -> None:
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise ValueError(f"it is not of schema {SCHEMA}")
        self.datasets = dict(record["datasets"])
        names = [field.name for field in fields(Key)]
        for row in record["measurements"]:
            key = Key(**{name: row[name] for name in names})
            self.measurements.append(Measurement(key, row["seed"], float(row["accuracy"]), row["seconds"]))

    def find(self, key: Key, seed: int) -> Measurement | None:
        """Returns the measurement of a key and a seed, or None."""
        return next((m for m in self.measurements if (m.seed, m.key) == (seed, key)), None)

    def add(self, measurements: Sequence[Measurement], dataset: dict[str, Any]) -> None:
        """Adds measurements on a dataset and writes the file, completely or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        self.measurements += measurements
        self.datasets[dataset["fingerprint"]] = dataset
        rows = [
            {**asdict(m.key), "seed": m.seed, "accuracy": m.accuracy, "seconds": m.seconds}
            for m in self.measurements
        ]
        summary = [
            {**asdict(s.key), "seeds": s.seeds, "mean": round(s.mean, 3), "std": s.std and round(s.std, 3)}
            for s in summarise(self.measurements)
        ]
        record = {"schema": SCHEMA, "run": self.run, "datasets": self.datasets}
        write_json(self.path, {**record, "summary": summary, "measurements": rows})
