"""The networks of a method: online backbone and projector, their target, and the predictor."""

from dataclasses import dataclass

import keras
from keras import ops

from selfsup.backend import replicas
from selfsup.backend.devices import resolve_precision
from selfsup.config import METHODS, Config
from selfsup.networks.backbones import Backbone, batch_norms, make_backbone, target_copy
from selfsup.networks.heads import PROJECTION, mlp
from selfsup.networks.resnet import resnet18

PREDICTOR = "predictor"
"""Name of the predictor, and first part of the paths of its variables."""


@dataclass(frozen=True)
class Networks:
    """Online network (backbone, projector), its moving average or None, and the predictor W_p."""

    backbone: keras.Model
    projector: keras.Sequential
    predictor: keras.Sequential
    target_backbone: keras.Model | None = None
    target_projector: keras.Sequential | None = None


def build_networks(config: Config, backbone: Backbone | None = None) -> Networks:
    """Builds all networks of a config; the target starts as a copy of the online network.

    Args:
        config: method, width, projector and precision.
        backbone: a functional Keras model or a function that makes one; default ResNet-18.

    Raises:
        InputError: the backbone does not map images to features [B, D].
    """
    resolved, dtype = config.resolved, resolve_precision(config.precision)
    online = resnet18(config.width, dtype=dtype) if backbone is None else make_backbone(backbone)
    features = online.output_shape[-1]

    def projector(name: str) -> keras.Sequential:
        return mlp(features, config.projector_layers, name, dtype)

    head = projector("projector")
    target = target_head = None
    if resolved.ema:
        if backbone is None:
            target = resnet18(config.width, dtype=dtype, name="target_backbone")
        else:
            target = target_copy(online, "target_backbone")
        target_head = projector("target_projector")
        _freeze(target, target_head)
        for layer in batch_norms(target, target_head):
            layer.momentum = 1.0  # its own passes leave the moving statistics alone: the EMA averages them
        copies = ((target, online), (target_head, head))
        for copy, original in copies:
            for mine, theirs in zip(copy.weights, original.weights, strict=True):
                mine.assign(ops.convert_to_numpy(theirs))  # a buffer of its own
    predictor = mlp(PROJECTION, METHODS[resolved.method].predictor_layers, PREDICTOR)
    if not resolved.trains_predictor:
        _freeze(predictor)
    networks = Networks(online, head, predictor, target, target_head)
    for layer in batch_norms(*filter(None, vars(networks).values())):
        layer.synchronized = replicas.count() > 1 and config.bn_groups == 1
    return networks


def _freeze(*models: keras.Model) -> None:
    """No gradients, but batch statistics: `model.trainable = False` would switch BN to inference."""
    for model in models:
        for variable in model.trainable_variables:
            variable.trainable = False
