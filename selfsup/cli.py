"""Command lines whose flags are the fields of `Config`: grouped help, one-line errors, exit status 2."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from absl import flags

from selfsup.config import METHODS, Config
from selfsup.utils.errors import InputError
from selfsup.utils.options import OPTION_GROUPS, Option

USAGE_ERROR = 2

_DEFINE = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


class CommandLine:
    """The flags of one command: its own, and fields of `Config`.

    Args:
        about: first lines of `--help`.
        own: flags that are not fields of `Config`, with their defaults, by name.
        groups: the fields of `Config` that are flags, by title; all of them by default.
    """

    def __init__(
        self,
        about: str,
        own: dict[str, tuple[Option, Any]],
        groups: dict[str, dict[str, Option]] = OPTION_GROUPS,
    ) -> None:
        self.about = about
        self.own = own
        self.groups = groups
        self.fields = {name: option for group in groups.values() for name, option in group.items()}
        self.flags = flags.FlagValues()
        for name, (option, default) in own.items():
            _DEFINE[option.type](name, default, option.help, flag_values=self.flags)
        for name, option in self.fields.items():
            _DEFINE[option.type](name, None, option.help, flag_values=self.flags)

    def parse(self, argv: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The command's own flags by name, and the fields of `Config` that were given by hand.

        Raises:
            InputError: an unknown flag, a value of the wrong type, or a stray argument.
        """
        try:
            rest = self.flags(list(argv))[1:]
        except flags.Error as error:
            raise InputError(" ".join(str(error).split())) from None
        if rest:
            raise InputError(f"unexpected argument {rest[0]!r}; flags are written --name=value")
        values = {name: self.flags[name].value for name in self.own}
        for name, (option, _) in self.own.items():
            if values[name] is not None:
                option.check(name, values[name])
        return values, {name: self.flags[name].value for name in self.fields if self.flags[name].present}

    def help(self) -> str:
        """All flags in groups, each with its unit and default."""
        lines = [self.about, ""]
        for title, group in {"Run": {n: o for n, (o, _) in self.own.items()}, **self.groups}.items():
            lines.append(f"{title}:")
            for name, option in group.items():
                default = self.own[name][1] if name in self.own else getattr(Config, name)
                lines += _flag_lines(name, option, default)
                if name == "method":
                    lines += [f"{'':30}{key:<11} {method.summary}" for key, method in METHODS.items()]
            lines.append("")
        return "\n".join(lines)


def _flag_lines(name: str, option: Option, default: Any) -> list[str]:
    value = {bool: "", int: "=N", float: "=X", str: "=TEXT"}[option.type]
    if option.choices:
        value = "=" + "|".join(option.choices)
    flag = f"  --[no]{name}" if option.type is bool else f"  --{name}{value}"
    shown = option.default or ("" if default is None else str(default))
    if option.type is bool and not option.default:
        shown = "on" if default else "off"
    text = option.help + (f" [{shown}]" if shown else "")
    return [f"{flag:<30}{text}"] if len(flag) < 30 else [flag, f"{'':30}{text}"]


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Drops what native code writes: TensorFlow's import prints two notes past every log level."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def main(command: CommandLine, body: Callable[[dict, dict], int], argv: Sequence[str]) -> int:
    """Runs `body` on what `parse` returns, for its exit status; bad input gets one line on stderr and 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(argv[1:]):
        print(command.help())
        return 0
    try:
        return body(*command.parse(argv))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
