"""Batch norm that is fast on every backend."""

from typing import Any

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


class BatchNorm(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis, fused on TensorFlow.

    Same weights, same meaning, same moving statistics. Keras 3 builds batch norm from single operations
    on TensorFlow; the fused one keeps bfloat16 images in bfloat16 and does the statistics in float32,
    which nearly doubles the speed of a ResNet-18 step on a CPU with AMX. Under XLA (JAX) nothing is to
    be gained. Inputs that are not [B, H, W, C], and layers without gamma or beta, take Keras' way.
    """

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        return super().add_weight(*args, **{**kwargs, "autocast": False})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        images = len(inputs.shape) == 4 and self.axis == -1 and self.scale and self.center and mask is None
        fused = keras.backend.backend() == "tensorflow" and images
        return self._fused(inputs, bool(training)) if fused else super().call(inputs, training, mask)

    def _fused(self, inputs: Any, training: bool) -> Any:
        training = training and self.trainable
        empty = tf.constant([], tf.float32)
        mean, variance = (empty, empty) if training else (self.moving_mean, self.moving_variance)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.convert_to_tensor(mean),
            variance=tf.convert_to_tensor(variance),
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
            biased = variance * ((count - 1.0) / count)  # the op applies Bessel's correction, Keras does not
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, biased)):
                moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs
