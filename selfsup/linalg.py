"""Largest eigenvalue and square root of positive semidefinite matrices by matrix products, fast on GPUs."""

from typing import Any

from keras import ops

from selfsup.backend.precision import full_precision

SQUARINGS = 10
ITERATIONS = 15
RIDGE = 1e-6


@full_precision()
def largest_eigenvalue(matrix: Any) -> Any:
    """Computes the largest eigenvalue by power iteration with repeated squaring.

    Ten squarings correspond to 1,024 steps of the iteration. Eigenvalues that these do not separate are so
    close that either is a good answer.

    Args:
        matrix: symmetric positive semidefinite, float32 [D, D].

    Returns:
        A float32 scalar; 0 for a zero matrix.

    Example:
        >>> round(float(largest_eigenvalue(ops.diag([1.0, 3.0]))), 3)
        3.0
    """
    power = matrix
    for _ in range(SQUARINGS):
        power = _over_largest_entry(ops.matmul(power, power))
    diagonal = ops.diagonal(power)
    vector = ops.take(power, ops.argmax(diagonal), axis=1)
    length = ops.sum(ops.square(vector))
    return ops.sum(vector * ops.matmul(matrix, vector)) / ops.where(length > 0, length, 1.0)


@full_precision()
def square_root(matrix: Any) -> Any:
    """Computes the square root by the coupled Newton-Schulz iteration.

    See Higham 2008, Functions of Matrices, eq. 6.35. An eigenvalue s grows to sqrt(s) by a factor of at most
    1.5 per iteration: after 15 iterations the error is largest for s around 1e-6, about 5e-4. A ridge of
    1e-6 keeps this bound for singular matrices.

    Args:
        matrix: symmetric positive semidefinite with a largest eigenvalue of about 1, float32 [D, D].

    Returns:
        The symmetric square root, float32 [D, D].

    Example:
        >>> root = square_root(ops.diag([1.0, 0.25]))
        >>> [round(float(entry), 2) for entry in ops.diagonal(root)]
        [1.0, 0.5]
    """
    identity = ops.eye(matrix.shape[0], dtype="float32")
    root, inverse = matrix + RIDGE * identity, identity
    for _ in range(ITERATIONS):
        step = 1.5 * identity - 0.5 * ops.matmul(inverse, root)
        root, inverse = ops.matmul(root, step), ops.matmul(step, inverse)
    return (root + ops.transpose(root)) / 2.0


def _over_largest_entry(matrix: Any) -> Any:
    largest = ops.max(ops.abs(matrix))
    return matrix / ops.where(largest > 0, largest, 1.0)
