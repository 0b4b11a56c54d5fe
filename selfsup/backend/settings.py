"""Process-wide settings of Keras and JAX that would change the numbers of a network."""

import keras

from selfsup.utils.errors import InputError


def check_settings() -> None:
    """Checks that `keras.json`, environment variables and other code have not changed the defaults.

    Raises:
        InputError: the backend is not TensorFlow or JAX, or the data format, the float type, the dtype policy
            or JAX's 64-bit mode is another one.
    """
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise InputError(
            f"the backend {keras.backend.backend()} is not supported; set KERAS_BACKEND to tensorflow or jax "
            "before keras is imported"
        )
    found = {
        "image_data_format": (keras.config.image_data_format(), "channels_last"),
        "floatx": (keras.config.floatx(), "float32"),
        "dtype policy": (keras.config.dtype_policy().name, "float32"),
    }
    if keras.backend.backend() == "jax":
        import jax

        found["jax_enable_x64"] = (str(jax.config.read("jax_enable_x64")), "False")
    for name, (value, wanted) in found.items():
        if value != wanted:
            raise InputError(
                f"{name} is {value} in this process, expected {wanted}; change it in ~/.keras/keras.json, "
                "the environment or your code (the precision of a network is Config's precision)"
            )
