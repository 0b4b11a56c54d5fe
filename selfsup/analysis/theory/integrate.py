"""Solutions of systems of arrays by SciPy."""

from collections.abc import Callable, Sequence

import numpy as np

from selfsup.analysis.theory.constants import Array
from selfsup.utils.errors import InputError

RTOL, ATOL = 1e-9, 1e-12


def integrate(
    rates: Callable[..., Sequence[Array]], start: Sequence[Array], times: Array, method: str = "DOP853"
) -> list[Array]:
    """Solves d(arrays)/dt = rates(*arrays).

    Args:
        rates: from arrays of the shapes of `start` to their rates.
        start: values at the first of the times.
        times: in ascending order, [T].
        method: "DOP853" for large systems, or "LSODA" for small ones that may be stiff.

    Returns:
        For each array of shape [...] its values at the times, float64 [T, ...].

    Raises:
        InputError: SciPy is not installed, or there is no solution up to the last of the times.

    Example:
        >>> (x,) = integrate(lambda x: [-x], [np.ones(1)], np.array([0.0, np.log(2.0)]))
        >>> x.round(6).tolist()
        [[1.0], [0.5]]
    """
    try:
        from scipy.integrate import solve_ivp
    except ImportError:
        raise InputError("the theory needs scipy; pip install scipy") from None
    times = np.asarray(times, np.float64)
    shapes = [np.shape(array) for array in start]
    ends = np.cumsum([np.size(array) for array in start])

    def split(flat: Array) -> list[Array]:
        parts = zip(np.split(flat, ends[:-1]), shapes, strict=True)
        return [part.reshape(*shape, *flat.shape[1:]) for part, shape in parts]

    def flat_rates(_: float, flat: Array) -> Array:
        return np.concatenate([np.ravel(rate) for rate in rates(*split(flat))])

    flat_start = np.concatenate([np.ravel(np.asarray(array, np.float64)) for array in start])
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        found = solve_ivp(
            flat_rates, (times[0], times[-1]), flat_start, method=method, t_eval=times, rtol=RTOL, atol=ATOL
        )
    if not found.success or not np.isfinite(found.y).all():
        raise InputError(f"the equations have no solution up to time {times[-1]:g}: {found.message}")
    return [np.moveaxis(part, -1, 0) for part in split(found.y)]
