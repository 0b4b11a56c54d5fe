"""The images of a run."""

from pathlib import Path

import numpy as np

from selfsup.config import Config
from selfsup.data.dataset import Dataset
from selfsup.data.load import load_dataset
from selfsup.networks.store import on_device
from selfsup.records.workdir import IMAGES
from selfsup.utils.errors import InputError


def load(config: Config, workdir: Path | None = None, given: Dataset | None = None) -> Dataset:
    """Loads the dataset of a config, or checks the one that is given instead.

    Args:
        config: the config of the run.
        workdir: folder of the run, which keeps decoded image files until the run ends, unless the config has
            a `cache_dir`.
        given: images instead of those of the config.

    Raises:
        InputError: the data cannot be used, or has fewer images than a batch.
    """
    data = given or load_dataset(
        config.dataset,
        config.data_dir,
        image_size=config.image_size,
        cache_dir=workdir and workdir / IMAGES if config.cache_dir is None else config.cache_dir,
        skip_broken=config.skip_broken,
    )
    if data.training_images < config.batch_size:
        raise InputError(
            f"batch_size {config.batch_size} is larger than the {data.training_images} training images"
        )
    return data


def stored_images(config: Config, data: Dataset) -> np.ndarray | None:
    """Returns the training images that are to lie on the device, uint8 [N, S, S, 3]; None if on the host."""
    if not on_device(config.images_on, data.training_images, data.image_size):
        return None
    return data.x_train if data.x_extra is None else np.concatenate([data.x_train, data.x_extra])
