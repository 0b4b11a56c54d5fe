"""Command lines whose flags are the fields of `Config`: grouped help, one-line errors, exit status 2."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from absl import flags

from selfsup.config import METHODS, OPTIONS, Config, rule_option
from selfsup.utils.errors import InputError
from selfsup.utils.options import Option

USAGE_ERROR = 2
FIELDS = tuple(name for name, option in OPTIONS.items() if option.group)
"""The fields of `Config` that can be flags."""

_DEFINE: dict[type, Callable] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


class CommandLine:
    """The flags of one command: its own, fields of `Config`, and options of the rules in `METHODS`.

    Args:
        about: first lines of `--help`.
        own: flags that are not fields of `Config`, with their defaults, by name.
        fields: the fields of `Config` that are flags. With `method` among them, so is every option that
            only a rule has.
    """

    def __init__(
        self, about: str, own: dict[str, tuple[Option, Any]], fields: Iterable[str] = FIELDS
    ) -> None:
        self.about = about
        self.own = own
        self.fields = {name: OPTIONS[name] for name in fields}
        self.rule_options = _rule_options() if "method" in self.fields else {}
        self.flags = flags.FlagValues()
        for name, (option, default) in own.items():
            _DEFINE[option.type](name, default, option.help, flag_values=self.flags)
        for name, option in {**self.fields, **self.rule_options}.items():
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
        fields, options = (
            {name: self.flags[name].value for name in names if self.flags[name].present}
            for names in (self.fields, self.rule_options)
        )
        return values, {**fields, "rule_options": options} if options else fields

    def help(self) -> str:
        """All flags in groups, each with its unit and default."""
        groups: dict[str, dict[str, Option]] = {"Run": {n: o for n, (o, _) in self.own.items()}}
        for name, option in {**self.fields, **self.rule_options}.items():
            groups.setdefault(option.group, {})[name] = option
        lines = [self.about, ""]
        for title, group in groups.items():
            lines.append(f"{title}:")
            for name, option in group.items():
                default = self.own[name][1] if name in self.own else getattr(Config, name, None)
                lines += _flag_lines(name, option, default)
                if name == "method":
                    lines += [f"{'':30}{key:<11} {method.summary}" for key, method in METHODS.items()]
            lines.append("")
        return "\n".join(lines)


def _rule_options() -> dict[str, Option]:
    """Options of the rules in `METHODS` that are no field of `Config`."""
    found: dict[str, Option] = {}
    for method in METHODS:
        for name, default in METHODS[method].rule_options.items():
            if name not in OPTIONS:
                found.setdefault(name, rule_option(method, default))
    return found


def _flag_lines(name: str, option: Option, default: Any) -> list[str]:
    value = {bool: "", int: "=N", float: "=X", str: "=TEXT"}[option.type]
    if option.choices:
        value = "=" + "|".join(option.choices)
    flag = f"  --[no]{name}" if option.type is bool else f"  --{name}{value}"
    shown = option.shown or ("" if default is None else str(default))
    if option.type is bool and not option.shown:
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
