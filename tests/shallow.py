"""A network of two residual blocks, for tests of what does not depend on depth."""

SHALLOW = {"STAGES": 2, "BLOCKS_PER_STAGE": 1}


def make_shallow() -> None:
    """All networks of this process from here on."""
    from selfsup.networks import resnet

    vars(resnet).update(SHALLOW)
