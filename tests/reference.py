"""The networks and the loss in NumPy, float64: an independent computation to compare a step with.

Weights are dicts by path, as `weights_of` returns them.
"""

import re
from collections.abc import Mapping

import numpy as np
from keras import ops

EPSILON = 1e-5
Weights = Mapping[str, np.ndarray]


def weights_of(model) -> dict[str, np.ndarray]:
    """All weights of a network by path, float64."""
    return {v.path.split("target_")[-1]: ops.convert_to_numpy(v).astype(np.float64) for v in model.weights}


def convolve(x: np.ndarray, kernel: np.ndarray, strides: int) -> np.ndarray:
    """2D convolution [B, H, W, C] with TensorFlow's "same" padding: the odd pixel at the end."""
    size, sides = kernel.shape[0], x.shape[1]
    padding = max((-(-sides // strides) - 1) * strides + size - sides, 0)
    x = np.pad(x, ((0, 0), *2 * ((padding // 2, padding - padding // 2),), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return np.einsum("bhwcij,ijcd->bhwd", windows[:, ::strides, ::strides], kernel, optimize=True)


class Network:
    """Batch norm with the statistics of the batch, which it collects in `statistics` by layer."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.statistics: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def norm(self, x: np.ndarray, layer: str) -> np.ndarray:
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axes), x.var(axes)
        self.statistics[layer] = mean, variance
        gamma, beta = (
            self.weights.get(f"{layer}/{name}", one) for name, one in (("gamma", 1.0), ("beta", 0.0))
        )
        return gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta

    def conv_norm(self, x: np.ndarray, layer: str, strides: int) -> np.ndarray:
        return self.norm(convolve(x, self.weights[f"{layer}_conv/kernel"], strides), f"{layer}_bn")

    def backbone(self, x: np.ndarray) -> np.ndarray:
        """ResNet with a small stem: [B, H, W, 3] -> [B, D]."""
        x = np.maximum(self.conv_norm(x, "stem", 1), 0)
        blocks = sorted({m[0] for path in self.weights if (m := re.match(r"stage\d_block\d", path))})
        for block in blocks:
            strides = 2 if block.endswith("block1") and not block.startswith("stage1") else 1
            y = np.maximum(self.conv_norm(x, f"{block}_1", strides), 0)
            y = self.conv_norm(y, f"{block}_2", 1)
            if f"{block}_shortcut_conv/kernel" in self.weights:
                x = self.conv_norm(x, f"{block}_shortcut", strides)
            x = np.maximum(x + y, 0)
        return x.mean((1, 2))

    def head(self, x: np.ndarray, name: str) -> np.ndarray:
        """Projector or predictor: [B, D] -> [B, 128]."""
        index = 1
        while f"{name}/hidden{index}/kernel" in self.weights:
            layer = f"{name}/hidden{index}"
            x = x @ self.weights[f"{layer}/kernel"] + self.weights[f"{layer}/bias"]
            x = np.maximum(self.norm(x, f"{layer}_bn"), 0)
            index += 1
        return x @ self.weights[f"{name}/output/kernel"]

    def project(self, view: np.ndarray) -> np.ndarray:
        """z of a view."""
        return self.head(self.backbone(view), "projector")


def cosine_loss(p1, p2, t1, t2) -> float:
    """Mean over the batch of -cos(p1, t2) - cos(p2, t1)."""

    def cosine(a, b):
        return np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    return float(-np.mean(cosine(p1, t2) + cosine(p2, t1)))


def effective_rank(correlation: np.ndarray) -> float:
    """exp of the entropy of the normalised eigenvalues."""
    s = np.clip(np.linalg.eigvalsh(correlation.astype(np.float64)), 0, None)
    p = s[s > 0] / s.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


def embedding_std(*projections: np.ndarray) -> float:
    """sqrt(D) times the mean deviation of the normalised projections."""
    stds = [np.std(z / np.linalg.norm(z, axis=1, keepdims=True), axis=0).mean() for z in projections]
    return float(np.mean(stds) * np.sqrt(projections[0].shape[1]))


def directpred(correlation: np.ndarray, eps: float) -> np.ndarray:
    """W_p of DirectPred."""
    s, u = np.linalg.eigh(correlation.astype(np.float64))
    p = np.sqrt(np.clip(s, 0, None) / s.max()) + eps
    return u @ np.diag(np.maximum(p, 1e-4)) @ u.T
