"""The hardware that the backend computes on, and the settings that suit it."""

import ctypes
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import keras

import selfsup

_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "tensorflow-datasets", "jax", "jaxlib", "numpy")
_JAX_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
_CPU_BFLOAT16 = ("amx_bf16", "avx512_bf16")
_CPU_ONEDNN = ("avx512_vnni", "avx_vnni", *_CPU_BFLOAT16)
"""TensorFlow enables oneDNN by default on CPUs with one of these flags."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt


def keep_freed_memory() -> None:
    """Makes glibc's allocator reuse the memory of freed arrays. Does nothing with other allocators.

    By default glibc returns large blocks to the system, and every step on a CPU allocates them again page
    by page: 30,000 page faults per step at width 64.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def lacks_onednn() -> bool:
    """Whether TensorFlow runs on this CPU without oneDNN because it was imported before `selfsup`."""
    unasked = keras.backend.backend() == "tensorflow" and not selfsup.ASKED_FOR_ONEDNN and not on_gpu()
    return unasked and bool(flags := _cpu()["flags"]) and not any(f in flags for f in _CPU_ONEDNN)


def make_deterministic() -> None:
    """Restricts this process to operations that return the same bits every time.

    On CPUs this changes nothing; on GPUs convolutions and sums get slower. On JAX, call it before anything
    is computed.
    """
    if keras.backend.backend() == "jax":
        flags = os.environ.get("XLA_FLAGS", "").split()
        os.environ["XLA_FLAGS"] = " ".join(dict.fromkeys([*flags, _JAX_DETERMINISTIC]))
        return
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def on_gpu() -> bool:
    """Whether the backend computes on a GPU (or TPU)."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() != "cpu"
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def local_devices() -> list[Any]:
    """Returns the backend's devices on this machine: the GPUs if there are any, otherwise the CPU.

    Devices are TensorFlow's device names or JAX's device objects. A CPU counts as one device unless it was
    divided into virtual devices (for tests).
    """
    if keras.backend.backend() == "jax":
        import jax

        return jax.local_devices()
    import tensorflow as tf

    return [device.name for device in tf.config.list_logical_devices("GPU" if on_gpu() else "CPU")]


def jit_compile() -> bool:
    """Whether Keras should compile whole steps with XLA. On TensorFlow that slows convolutions down."""
    return keras.backend.backend() == "jax"


def resolve_precision(precision: str) -> str:
    """Returns the dtype policy for a config's `precision` on this machine.

    Args:
        precision: "auto", "float32" or "mixed_bfloat16". "auto" becomes "mixed_bfloat16" on GPUs and, with
            TensorFlow, on CPUs with AMX or AVX512_BF16; elsewhere it becomes "float32" (JAX on a CPU gains
            nothing from bfloat16).
    """
    if precision != "auto":
        return precision
    fast_cpu = keras.backend.backend() == "tensorflow" and any(f in _cpu()["flags"] for f in _CPU_BFLOAT16)
    return "mixed_bfloat16" if on_gpu() or fast_cpu else "float32"


def describe_device() -> str:
    """Returns the device as text, such as "CPU (Intel Xeon, 2 cores)"."""
    if not on_gpu():
        cores = _cores()
        return f"CPU ({_cpu()['model']}, {cores} core{'s' if cores > 1 else ''})"
    if keras.backend.backend() == "jax":
        import jax

        return ", ".join(sorted({device.device_kind for device in jax.local_devices()}))
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return ", ".join(sorted({tf.config.experimental.get_device_details(g)["device_name"] for g in gpus}))


def environment(device: str, precision: str) -> dict[str, Any]:
    """Returns the environment of this process as it is recorded in `result.json`.

    Args:
        device: the device as text.
        precision: the dtype policy.

    Returns:
        The keys `backend`, `device`, `precision`, `python`, `system`, and `versions` of installed packages.
    """
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "backend": keras.backend.backend(),
        "device": device,
        "precision": precision,
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": versions,
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> dict[str, Any]:
    """Model name and feature flags, as far as the system reports them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {"model": platform.processor() or platform.machine(), "flags": ()}
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    return {"model": fields.get("model name", platform.machine()), "flags": fields.get("flags", "").split()}
