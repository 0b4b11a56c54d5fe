"""How every field of `Config` is explained to people and checked: one table for flags and library."""

import math
from dataclasses import dataclass
from typing import Any

from selfsup.utils.errors import InputError


@dataclass(frozen=True)
class Option:
    """The help, type and accepted values of one field.

    Attributes:
        help: what it is, with its unit.
        type: bool, int, float or str.
        default: the default in words, where it depends on other fields.
        choices: the accepted texts, if few.
        low, high: the accepted range, ends included unless `open_low`, `open_high`.
    """

    help: str
    type: type
    default: str = ""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def expected(self) -> str:
        """The accepted values in words, such as "a number in [0, 1)"."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[self.type]
        if self.low is None:
            return kind
        if self.high is None:
            return f"{kind} {'above' if self.open_low else 'of at least'} {self.low:g}"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"{kind} in {left}{self.low:g}, {self.high:.10g}{right}"

    def accepts(self, value: Any) -> bool:
        """Whether `value`, already of this type, lies in the choices and the range."""
        if self.choices and value not in self.choices:
            return False
        if self.type is float and not math.isfinite(value):
            return False
        if self.low is not None and (value < self.low or (self.open_low and value == self.low)):
            return False
        return self.high is None or value < self.high or (value == self.high and not self.open_high)

    def check(self, name: str, value: Any) -> Any:
        """`value` as this option's type; raises `InputError` naming `name` if it is not accepted."""
        if self.type is float and type(value) is int:
            value = float(value)
        if type(value) is not self.type or not self.accepts(value):
            raise InputError(f"{name} must be {self.expected()}, not {value!r}")
        return value


def parse_part(name: str, text: str) -> tuple[int, int]:
    """Index, from 0, and count of "I/N", the I-th of N, I from 1.

    Raises:
        InputError: `text` is not written so.
    """
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise InputError(f"{name} must be I/N with I from 1 to N, such as 2/4, not {text!r}")
    return int(index) - 1, int(count)


OPTION_GROUPS: dict[str, dict[str, Option]] = {
    "Method": {
        "method": Option("how the predictor W_p is made", str),
        "ema": Option("the target is a moving average of the online network", bool, "on, off for simsiam"),
        "symmetric": Option("symmetrise W_p after each step (trained predictors only)", bool),
        "freq": Option("steps from one setting of W_p to the next, trained in between", int, "1", low=1),
        "eps": Option("boost of W_p's spectrum", float, "directpred 0.1, directcopy 0.3", low=0, high=1),
        "rho": Option(
            "decay of F, the moving average of z z^T",
            float, "0.3, directcopy 0.5", low=0, high=1, open_high=True,
        ),
        "tau": Option("decay of the target's moving average", float, "0.996", low=0, high=1),
        "spectrum": Option(
            "of directpred: as in the authors' code, or as in the report's equation 2",
            str, "normalized", ("normalized", "paper"),
        ),
        "solver": Option(
            "of directpred: eigendecomposition, or matrix products alone, within 1e-3 of it",
            str, "eigh", ("eigh", "newton_schulz"),
        ),
        "norm": Option("of F, which directcopy divides by", str, "fro", ("fro", "spectral")),
        "projector_layers": Option("with 3 the first block is probed as well", int, low=2, high=3),
        "bn_groups": Option(
            "parts of a batch with statistics of their own: one, or one per device (TensorFlow)", int, low=1
        ),
    },
    "Optimisation": {
        "learning_rate": Option("of SGD, constant", float, low=0, open_low=True),
        "predictor_learning_rate": Option(
            "of a trained predictor", float, "learning_rate", low=0, open_low=True
        ),
        "momentum": Option("of SGD", float, low=0, high=1, open_high=True),
        "weight_decay": Option("L2 penalty, added to the gradient", float, low=0),
        "predictor_weight_decay": Option("of a trained predictor", float, "weight_decay", low=0),
        "batch_size": Option("images per step; a partial last batch is dropped", int, low=2),
        "epochs": Option("passes of pre-training", int, low=1),
        "probe_epochs": Option("passes of the linear probe", int, low=1),
        "probe_untrained": Option("probe the network before training as well", bool),
    },
    "Network and run": {
        "width": Option("channels of ResNet-18's first stage", int, low=1),
        "precision": Option(
            "auto: bfloat16 on GPUs, and on CPUs with AMX or AVX512_BF16 under TensorFlow",
            str, choices=("auto", "float32", "mixed_bfloat16"),
        ),
        "deterministic": Option("only operations that give the same bits every time, on GPUs too", bool),
        "record_every": Option(
            "epochs from one recording of the eigenspaces to the next, after the first", int, low=1
        ),
        "seed": Option("of weights, order and augmentation", int, low=0, high=2**31 - 1),
    },
    "Data": {
        "dataset": Option("a TFDS name, shapes, or the path of an .npz or an image folder", str),
        "data_dir": Option("folder of prepared TFDS data", str, "$TFDS_DATA_DIR, else TFDS's own"),
    },
}  # fmt: skip
"""The fields of `Config` as `--help` shows them."""

OPTIONS: dict[str, Option] = {
    **{name: option for group in OPTION_GROUPS.values() for name, option in group.items()},
    "experiment": Option("name in the registry", str),
}
