"""Command lines with the fields of `Config` as flags, grouped help and one-line errors."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import flags

from selfsup.config import METHODS, OPTIONS, Config, rule_option
from selfsup.utils.errors import InputError
from selfsup.utils.options import Option
from selfsup.utils.streams import discard_unwritable, tolerant_output

USAGE_ERROR = 2
BACKENDS = ("tensorflow", "jax")
FIELDS = tuple(name for name, option in OPTIONS.items() if option.group)
"""The fields of `Config` that can be flags."""

_DEFINE: dict[type, Callable] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


class CommandLine:
    """The flags of one command.

    Args:
        about: first lines of `--help`; {program} stands for the command as it was typed.
        own: the command's flags that are not fields of `Config`, with their defaults, by name.
        fields: names of the fields of `Config` that are flags. If `method` is among them, so are the rule
            options that are not fields.
        positional: whether the command also takes arguments that are not flags.
        required: names in `own` whose flags must be given.

    Example:
        >>> CommandLine("", {"out": (Option("a file"), "x.npz")}).parse(["command", "--epochs=3"])
        ({'out': 'x.npz'}, {'epochs': 3})
    """

    def __init__(
        self,
        about: str,
        own: dict[str, tuple[Option, Any]],
        fields: Iterable[str] = FIELDS,
        positional: bool = False,
        required: Sequence[str] = (),
    ) -> None:
        self.about, self.positional, self.required = about, positional, required
        self.own = own
        self.fields = {name: OPTIONS[name] for name in fields}
        self.rule_options = _rule_options() if "method" in self.fields else {}
        self.flags = flags.FlagValues()
        self.flags.set_gnu_getopt(positional)  # flags may follow arguments
        for name, (option, default) in own.items():
            _DEFINE[option.type](name, default, option.help, flag_values=self.flags)
        for name, option in {**self.fields, **self.rule_options}.items():
            _DEFINE[option.type](name, None, option.help, flag_values=self.flags)

    def parse(self, argv: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parses the program name and arguments in `argv`.

        Returns:
            The values of the command's own flags, and the fields of `Config` that were given, by name. The
            arguments that are not flags are among the former, as `arguments`.

        Raises:
            InputError: a flag is unknown or missing, a value is invalid, or an argument should be a flag.
        """
        try:
            stray = self.flags(list(argv))[1:]
        except flags.IllegalFlagValueError as error:
            raise InputError(self._illegal(str(error))) from None
        except (flags.Error, ValueError) as error:  # the latter for --noema=VALUE
            raise InputError(" ".join(str(error).split())) from None
        if stray and not self.positional:
            raise InputError(f"unexpected argument {stray[0]!r}; flags are written --name=value")
        values = {name: self.flags[name].value for name in self.own}
        for name, (option, _) in self.own.items():
            if values[name] is not None:
                option.check(name, values[name])
            if name in self.required and not values[name]:
                raise InputError(f"--{name} is missing: {option.help}")
        fields, options = (
            {name: self.flags[name].value for name in names if self.flags[name].present}
            for names in (self.fields, self.rule_options)
        )
        if self.positional:
            values["arguments"] = stray
        return values, {**fields, "rule_options": options} if options else fields

    def _illegal(self, text: str) -> str:
        """Returns what a flag accepts, from absl's "flag --NAME=VALUE: REASON"."""
        name, _, rest = text.removeprefix("flag --").partition("=")
        option = self.own[name][0] if name in self.own else {**self.fields, **self.rule_options}[name]
        return f"{name} must be {option.expected()}, not {rest.partition(': ')[0]!r}"

    def help(self, program: str) -> str:
        """Returns the text of `--help` for a program name: all flags in groups, with their defaults."""
        own = {name: option for name, (option, _) in self.own.items()}
        groups: dict[str, dict[str, Option]] = {"Run" if self.fields else "Flags": own}
        for name, option in {**self.fields, **self.rule_options}.items():
            groups.setdefault(option.group, {})[name] = option
        typed = f"python {program}" if program.endswith(".py") else program
        lines = [self.about.replace("{program}", typed), ""]
        for title, group in groups.items():
            lines.append(f"{title}:")
            for name, option in group.items():
                default = self.own[name][1] if name in self.own else getattr(Config, name, None)
                lines += _flag_lines(name, option, default)
                if name == "method":
                    lines += [f"{'':30}{key:<11} {method.summary}" for key, method in METHODS.items()]
            lines.append("")
        return "\n".join(lines)


def split_names(flag: str, text: str) -> list[str]:
    """Returns the names in the value of a flag, separated by commas.

    Raises:
        InputError: there are none.

    Example:
        >>> split_names("only", "table1, sgd")
        ['table1', 'sgd']
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"{flag} must be names separated by commas, not {text!r}")
    return names


def _rule_options() -> dict[str, Option]:
    """Returns the options of the rules in `METHODS` that are not fields of `Config`, by name.

    Options whose default is not a bool, a number or text get no flag.
    """
    found: dict[str, Option] = {}
    for method in METHODS:
        for name, default in METHODS[method].rule_options.items():
            if name not in OPTIONS and type(default) in _DEFINE:
                found.setdefault(name, rule_option(method, name))
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
    """Drops all output to stderr, including that of native code: TensorFlow's import ignores log levels."""
    if sys.stderr is None:  # closed from the start
        yield
        return
    sys.stderr.flush()
    saved, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(devnull)


def main(command: CommandLine, body: Callable[[dict, dict], int], argv: Sequence[str]) -> int:
    """Calls `body` with the results of `command.parse(argv)` and returns its exit status.

    An `InputError` becomes one line on stderr and status 2. Output that cannot be written is dropped.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tolerant_output():
        status = _status(command, body, argv)
    discard_unwritable()
    return status


def _status(command: CommandLine, body: Callable[[dict, dict], int], argv: Sequence[str]) -> int:
    if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(argv[1:]):
        print(command.help(argv[0]))
        return 0
    try:
        values = command.parse(argv)
        check_backend()
        check_plotting()
        return body(*values)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def check_backend() -> None:
    """Checks the backend that Keras will import, before it does.

    Raises:
        InputError: the backend of $KERAS_BACKEND, or else of Keras' configuration file, is not supported.
    """
    name, source = os.environ.get("KERAS_BACKEND"), "KERAS_BACKEND"
    if not name:
        try:
            path = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "keras.json"
            name, source = json.loads(path.read_text()).get("backend"), f"the backend in {path}"
        except (OSError, ValueError, AttributeError, RuntimeError):  # the last one: there is no home folder
            return
    if name and name not in BACKENDS:
        choices = " or ".join(BACKENDS)
        raise InputError(
            f"{source} is {name!r}, which selfsup does not support; set KERAS_BACKEND to {choices}"
        )


def check_plotting() -> None:
    """Checks $MPLBACKEND, which matplotlib reads when it is imported. No figure of ours needs it.

    Raises:
        InputError: matplotlib does not know the backend.
    """
    if "MPLBACKEND" not in os.environ:
        return
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return  # reported by what needs it
    except ValueError:
        name = os.environ["MPLBACKEND"]
        raise InputError(f"MPLBACKEND is {name!r}, which matplotlib does not know; unset it") from None
