"""The square root of a positive semidefinite matrix from matrix products alone, which GPUs are fast at."""

from typing import Any

from keras import ops

from selfsup.backend.precision import full_precision

SQUARINGS = 10
ITERATIONS = 15
RIDGE = 1e-6


@full_precision()
def largest_eigenvalue(matrix: Any) -> Any:
    """Of a symmetric positive semidefinite matrix [D, D], by power iteration, squaring the matrix.

    Ten squarings are 1,024 steps of the iteration; for two eigenvalues so close that this does not tell
    them apart, either will do. A zero matrix gives 0.
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
    """Of a symmetric positive semidefinite matrix [D, D] whose largest eigenvalue is about 1, float32.

    The coupled Newton-Schulz iteration (Higham 2008, Functions of Matrices, eq. 6.35). An eigenvalue s
    grows to sqrt(s) by a factor of 1.5 an iteration at most: after 15 of them the error is largest where
    s is around 1e-6, about 5e-4. A ridge of 1e-6 keeps that bound where the matrix is singular.
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
