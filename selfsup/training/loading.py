"""The data of a run."""

from pathlib import Path

from selfsup.config import Config
from selfsup.data.dataset import Dataset
from selfsup.data.load import load_dataset
from selfsup.records.workdir import IMAGES
from selfsup.utils.errors import InputError


def load(config: Config, workdir: Path | None = None) -> Dataset:
    """Loads the dataset of a config.

    Args:
        config: the config of the run.
        workdir: folder of the run, which keeps decoded image files until the run ends, unless the config has
            a `cache_dir`.

    Raises:
        InputError: the data cannot be used, or has fewer images than a batch.
    """
    data = load_dataset(
        config.dataset,
        config.data_dir,
        image_size=config.image_size,
        cache_dir=config.cache_dir or (workdir and workdir / IMAGES),
        skip_broken=config.skip_broken,
    )
    if data.training_images < config.batch_size:
        raise InputError(
            f"batch_size {config.batch_size} is larger than the {data.training_images} training images"
        )
    return data
