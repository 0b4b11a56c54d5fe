"""Finds a dataset of TensorFlow Datasets (TFDS) by name, and downloads it."""

import difflib
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

from selfsup.utils.errors import InputError

OTHER_WAYS = (
    "pass a prepared copy as --data_dir, or an .npz file or image folder as --dataset=PATH, "
    "or use the built-in --dataset=shapes"
)
FIRST_ANSWER = 15.0
"""Seconds within which the first host must answer."""
RETRIES = 3
"""Attempts per address after the first, until a host has answered; TFDS makes ten, in over three minutes."""


def is_listed(name: str) -> bool:
    """Whether TFDS is installed and lists a dataset of this name, without config and version."""
    try:
        return name in _tfds().list_builders(with_community_datasets=False)
    except ImportError:
        return False


def find_builder(name: str, data_dir: str | None) -> Any:
    """Returns the `tfds.core.DatasetBuilder` of a dataset that TFDS lists or that is prepared in `data_dir`.

    Args:
        name: NAME, NAME/CONFIG, NAME:VERSION or NAME/CONFIG:VERSION.
        data_dir: folder of prepared data; None for $TFDS_DATA_DIR or else TFDS's default.

    Raises:
        InputError: TFDS is not installed, or has no such dataset, config or version. For a name that looks
            like a path the message says that the path does not exist.
    """
    base = re.split("[/:]", name)[0]
    looks_like_path = re.search(r"[/\\]|\.[A-Za-z]\w*$", name) is not None
    no_path = InputError(f"dataset {name!r} is neither a file nor a folder; check the path")
    if re.match(r"[.~/\\]|[A-Za-z]:\\", name):
        raise no_path
    try:
        tfds = _tfds()
    except ImportError:
        raise InputError(
            f"dataset {name!r} is neither a file nor a folder here, and a TFDS dataset needs "
            f"tensorflow-datasets, which is not installed; {OTHER_WAYS}"
        ) from None
    from tensorflow_datasets.core import visibility

    listed = tfds.list_builders(with_community_datasets=False)
    try:
        # The list of community datasets would be downloaded.
        with visibility.set_availables_tmp([visibility.DatasetType.TFDS_PUBLIC]):
            return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except Exception as error:  # unknown name, config or version, missing package, damaged copy: many types
        if base in listed:
            raise InputError(f"dataset {name!r}: {_explain(tfds, base, error)}") from None
        if not isinstance(error, ValueError):  # TFDS's own for unknown names
            raise InputError(f"dataset {name!r} cannot be read: {_line(error)}; {OTHER_WAYS}") from None
    if looks_like_path:
        raise no_path
    near = difflib.get_close_matches(base.lower(), listed, n=3, cutoff=0.7)
    meant = f" (did you mean {' or '.join(near)}?)" if near else ""
    raise InputError(f"dataset {name!r} is not one of TFDS's datasets{meant}; {OTHER_WAYS}")


def download(builder: Any, name: str) -> None:
    """Downloads a dataset and converts it to records.

    Args:
        builder: its `tfds.core.DatasetBuilder`.
        name: its name, for error messages.

    Raises:
        InputError: the download or the conversion failed. The message has TFDS's reason.
    """
    try:
        with _impatience():
            builder.download_and_prepare()
    except Exception as error:  # manual download, full disk, lost connection: many types
        raise InputError(
            f"dataset {name!r} is not in {builder.data_path} and cannot be prepared: {_line(error)}; "
            f"{OTHER_WAYS}"
        ) from None


@contextmanager
def _impatience() -> Iterator[None]:
    """Limits the time in which TFDS's downloader must get its first answer; then TFDS's own patience applies.

    Connections are opened in daemon threads, because a DNS lookup has no time limit and a thread of TFDS's
    pool would delay the exit of the process.
    """
    from tensorflow_datasets.core.download import downloader

    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # warns at every attempt
    original, retries, answered = downloader._open_url, downloader.MAX_RETRIES, threading.Event()

    @contextmanager
    def opened(url: str, **options: Any) -> Iterator[Any]:
        connection = original(url, **options)
        outcome: list[Any] = []
        done = threading.Event()

        def enter() -> None:
            try:
                outcome.append(connection.__enter__())
                answered.set()
                downloader.MAX_RETRIES = retries
            except Exception as error:
                outcome.append(error)
            done.set()

        threading.Thread(target=enter, daemon=True).start()
        if not done.wait(FIRST_ANSWER):
            if not answered.is_set():
                raise TimeoutError(f"no answer from {url} within {FIRST_ANSWER:.0f} s")
            done.wait()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        with ExitStack() as stack:
            stack.push(connection.__exit__)
            yield outcome[0]

    downloader._open_url, downloader.MAX_RETRIES = opened, RETRIES
    try:
        yield
    finally:
        downloader._open_url, downloader.MAX_RETRIES = original, retries


def _tfds() -> ModuleType:
    import tensorflow_datasets

    logging.getLogger("absl").setLevel(logging.ERROR)
    return tensorflow_datasets


def _explain(tfds: ModuleType, base: str, error: Exception) -> str:
    """Returns TFDS's reason as one line, with the configs to choose from if there is no such config."""
    text = _line(error)
    if "BuilderConfig" not in text:
        return f"{text}; choose another or pass a prepared copy as --data_dir"
    configs = list(tfds.builder_cls(base).builder_configs)
    shown = ", ".join(configs[:10]) + ", ..." * (len(configs) > 10)
    return f"no such config; {base} has {shown}" if configs else f"{base} has no configs"


def _line(error: Exception) -> str:
    """Returns the cause of an error as one line, without the names of connection and builder arguments."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    text = str(cause or error).strip() or type(error).__name__
    line = " ".join(text.splitlines()[0].split()).rstrip(".:")
    return re.sub(r"^(HTTPS?Connection\(.*?\)|Failed to construct dataset .*?\}\"): ", "", line)
