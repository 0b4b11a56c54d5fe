"""The networks of a method: backbone and projector, their target copies, and the predictor."""

from dataclasses import dataclass

import keras
from keras import ops

from selfsup.backend import replicas
from selfsup.backend.devices import resolve_precision
from selfsup.config import METHODS, Config
from selfsup.networks.backbones import Backbone, batch_norms, copied, make_backbone
from selfsup.networks.heads import PROJECTION, mlp
from selfsup.networks.resnet import resnet18

PREDICTOR = "predictor"
"""Name of the predictor, with which the paths of its variables begin."""


@dataclass(frozen=True)
class Networks:
    """The online network (backbone, projector), the predictor, and the target; None without EMA."""

    backbone: keras.Model
    projector: keras.Sequential
    predictor: keras.Sequential
    target_backbone: keras.Model | None = None
    target_projector: keras.Sequential | None = None


def build_networks(config: Config, backbone: Backbone | None = None) -> Networks:
    """Builds all networks of a config. The target starts as a copy of the online network.

    Args:
        config: the config.
        backbone: see `SiameseModel`.

    Raises:
        InputError: the backbone does not map images to features [B, D].
    """
    resolved, dtype = config.resolved, resolve_precision(config.precision)

    def resnet(name: str) -> keras.Model:
        shape = (config.image_size, config.image_size, 3)
        return resnet18(config.width, shape, dtype, name, resolved.stem)

    online = resnet("backbone") if backbone is None else make_backbone(backbone)
    features = online.output_shape[-1]

    def projector(name: str) -> keras.Sequential:
        return mlp(features, config.projector_layers, name, dtype)

    head = projector("projector")
    target = target_head = None
    if resolved.ema:
        if backbone is None:
            target = resnet("target_backbone")
        else:
            target = copied(online, "target_backbone")
        target_head = projector("target_projector")
        _freeze(target, target_head)
        for layer in batch_norms(target, target_head):
            layer.momentum = 1.0  # only the EMA changes the moving statistics, not the target's forward pass
        for copy, original in ((target, online), (target_head, head)):
            for target_weight, weight in zip(copy.weights, original.weights, strict=True):
                target_weight.assign(ops.convert_to_numpy(weight))  # by NumPy, so that no buffer is shared
    predictor = mlp(PROJECTION, METHODS[resolved.method].predictor_layers, PREDICTOR)
    if not resolved.trains_predictor:
        _freeze(predictor)
    networks = Networks(online, head, predictor, target, target_head)
    for layer in batch_norms(*filter(None, vars(networks).values())):
        layer.synchronized = replicas.count() > 1 and config.bn_groups == 1
    return networks


def _freeze(*models: keras.Model) -> None:
    """Stops gradients but not batch statistics; `model.trainable = False` would put BN in inference mode."""
    for model in models:
        for variable in model.trainable_variables:
            variable.trainable = False
