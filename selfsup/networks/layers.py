"""Keras' batch normalization and convolution, made faster on TensorFlow."""

from typing import Any

import keras

from selfsup.backend import replicas
from selfsup.backend.devices import on_gpu

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


@keras.saving.register_keras_serializable("selfsup")
class BatchNorm(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis, fused on TensorFlow.

    Weights, outputs and moving statistics are the same. Keras 3 builds batch normalization from single
    operations on TensorFlow. The fused operation keeps bfloat16 images in bfloat16 and computes the
    statistics in float32, which nearly doubles the speed of a ResNet-18 step on a CPU with AMX. With XLA
    (JAX) there is nothing to gain. Inputs that are not [B, H, W, C], float64 inputs and layers without gamma
    or beta use Keras' implementation.

    If several devices share a batch on TensorFlow, `synchronized=True` computes the statistics over the whole
    batch, with Keras' implementation. Otherwise each device uses the statistics of its own rows, and the
    moving statistics are averaged over the devices.
    """

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        """Creates a weight without autocast: the statistics stay in float32."""
        return super().add_weight(*args, **{**kwargs, "autocast": False})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalises `inputs`, [B, H, W, C] or [B, D], and keeps their shape and dtype."""
        shared = replicas.count() > 1
        images = len(inputs.shape) == 4 and self.axis == -1 and self.scale and self.center and mask is None
        images = images and inputs.dtype != "float64"  # the fused operation does not support float64
        fused = keras.backend.backend() == "tensorflow" and images and not (shared and self.synchronized)
        outputs = self._fused(inputs, bool(training)) if fused else super().call(inputs, training, mask)
        if shared and not self.synchronized and training and self.momentum < 1:
            for moving in (self.moving_mean, self.moving_variance):
                moving.assign(replicas.mean(moving))
        return outputs

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
            biased = variance * ((count - 1.0) / count)  # Keras does not apply Bessel's correction
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, biased)):
                moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs


@keras.saving.register_keras_serializable("selfsup")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a better kernel gradient on CPUs.

    oneDNN's kernel gradient in bfloat16 is slow for small images with many channels, as in the last stages of
    a ResNet: at 4x4 pixels and 512 channels it takes four times as long as the forward pass. The gradient of
    a 1x1 kernel can be non-deterministic if the number of channels is not a multiple of 16. In both cases
    this layer computes the gradient as one matrix product for each kernel position; in the first case that
    takes a sixth of the time. In all other cases, and always with a bias, an activation, dilation, groups or
    padding other than "same", it behaves exactly like Keras' layer.
    """

    def call(self, inputs: Any) -> Any:
        """Convolves `inputs`, [B, H, W, C], to [B, H / stride, W / stride, filters]."""
        if not self._by_products(inputs):
            return super().call(inputs)
        stride = self.strides[0]
        return _convolve(stride)(inputs, tf.convert_to_tensor(self.kernel))

    def _by_products(self, inputs: Any) -> bool:
        """Whether to compute the kernel gradient by matrix products.

        They are faster if the output has fewer pixels than the input has channels, and deterministic for 1x1
        kernels. `kernel_gradient` supports only square images whose side is a multiple of the stride.
        """
        (height, width), stride, channels = inputs.shape[1:3], self.strides[0], inputs.shape[-1]
        if keras.backend.backend() != "tensorflow" or on_gpu():
            return False
        if height is None or height != width or height % stride:
            return False
        plain = self.padding == "same" and not self.use_bias and self.groups == 1
        plain = plain and tuple(self.dilation_rate) == (1, 1) and self.strides[0] == self.strides[1]
        if not plain or self.activation is not keras.activations.linear:
            return False
        few_pixels = self.compute_dtype == "bfloat16" and (height // stride) ** 2 < channels
        return few_pixels or (self.kernel_size == (1, 1) and channels % 16 != 0)


def _convolve(stride: int) -> Any:
    """Returns the convolution of inputs and kernel, with the kernel gradient by matrix products."""

    @tf.custom_gradient
    def convolve(x: Any, kernel: Any) -> Any:
        def gradient(dy: Any) -> tuple[Any, Any]:
            dx = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x),
                filter=kernel,
                out_backprop=dy,
                strides=[1, stride, stride, 1],
                padding="SAME",
            )
            return dx, kernel_gradient(x, dy, kernel.shape[0], stride)

        return tf.nn.conv2d(x, kernel, stride, "SAME"), gradient

    return convolve


def kernel_gradient(x: Any, dy: Any, size: int, stride: int) -> Any:
    """Computes the kernel gradient of a convolution with "same" padding: x^T dy for each kernel position.

    Args:
        x: inputs, [B, H, W, C]; square, with a height that is a multiple of the stride.
        dy: gradient of the outputs, [B, H / stride, W / stride, O].
        size: height and width of the kernel.
        stride: stride of the convolution.

    Returns:
        [size, size, C, O], in the dtype of the inputs.
    """
    outputs, channels = dy.shape[1], x.shape[3]
    padding = max(size - stride, 0)
    before = padding // 2
    after = padding - before + (-padding) % stride
    x = tf.pad(x, [[0, 0], [before, after], [before, after], [0, 0]])
    if stride > 1:  # each position then reads adjacent pixels of one phase instead of every stride-th pixel
        x = tf.nn.space_to_depth(x, stride)
    dy = tf.reshape(dy, (-1, dy.shape[3]))
    products = []
    for i in range(size):
        for j in range(size):
            phase = (i % stride * stride + j % stride) * channels
            i0, j0 = i // stride, j // stride
            seen = x[:, i0 : i0 + outputs, j0 : j0 + outputs, phase : phase + channels]
            products.append(tf.matmul(tf.reshape(seen, (-1, channels)), dy, transpose_a=True))
    return tf.reshape(tf.stack(products), (size, size, channels, -1))
