"""One `train_step` for both backends: the backend's own, then what a model does after it."""

from typing import Any

import keras


class StepModel(keras.Model):
    """A model whose `after_step` runs after every training step and may assign variables.

    A batch of two views, (view1, view2) or (view1, view2, labels), reaches `call` as one input.
    """

    def after_step(self) -> None:
        """Runs after the optimizer's update; on JAX its assignments become part of the step's new state."""
        raise NotImplementedError

    def check_inputs(self, inputs: Any) -> None:
        """Checks what `call` is to get. Keras would wrap an error of `call` in many lines."""

    def train_step(self, *args: Any) -> Any:
        """As `keras.Model.train_step` on TensorFlow (data) and on JAX (state, data)."""
        args = self._checked(args)
        if keras.backend.backend() != "jax":
            logs = super().train_step(*args)
            self.after_step()
            return logs
        logs, (trainable, non_trainable, *rest) = super().train_step(*args)
        variables = (*self.trainable_variables, *self.non_trainable_variables)
        values = (*trainable, *non_trainable)
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))) as scope:
            self.after_step()
        trainable = [scope.get_current_value(v) for v in self.trainable_variables]
        non_trainable = [scope.get_current_value(v) for v in self.non_trainable_variables]
        return logs, (trainable, non_trainable, *rest)

    def test_step(self, *args: Any) -> Any:
        """As `keras.Model.test_step`, with the arguments of `train_step`."""
        return super().test_step(*self._checked(args))

    def predict_step(self, *args: Any) -> Any:
        """As `keras.Model.predict_step`, with the arguments of `train_step`."""
        return super().predict_step(*self._checked(args))

    def _checked(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        data = _as_pair(args[-1])
        self.check_inputs(keras.utils.unpack_x_y_sample_weight(data)[0])
        return (*args[:-1], data)


def sync(model: keras.Model) -> None:
    """Brings the variables of a model in `fit` up to date: JAX does so only on request."""
    getattr(model, "jax_state_sync", lambda: None)()


def _as_pair(data: Any) -> Any:
    """A batch of two views as one input, with labels if there are any. Keras takes view2 for labels."""
    x, y, labels = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(x, (tuple, list)) and len(x) == 3:
        return tuple(x[:2]), x[2]
    return data if y is None or len(y.shape) != 4 else ((x, y), labels)
