"""Keras 3 on JAX: its applications in small settings, and its layers as in its documentation."""

import functools

import numpy as np

from .model import Wild, keras_pair, normal


def images(seed: int):
    return (np.random.default_rng(seed).standard_normal((8, 32, 32, 3), np.float32),)


def tokens(seed: int):
    return (np.random.default_rng(seed).integers(0, 256, (8, 24), np.int32),)


def mlp():
    import keras

    def make():
        layers = [keras.layers.Dense(128, activation=a) for a in ("relu", "gelu")]
        return keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(64)])

    return keras_pair(make)


def convnet():
    import keras
    from keras import layers

    def make():
        return keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
                layers.MaxPooling2D(pool_size=(2, 2)),
                layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
                layers.MaxPooling2D(pool_size=(2, 2)),
                layers.Flatten(),
                layers.Dropout(0.5),
                layers.Dense(64, activation="softmax"),
            ]
        )

    return keras_pair(make)


def application(name: str, training: bool = True, **settings):
    import keras

    options = {"weights": None, "input_shape": (32, 32, 3), "classes": 64, "classifier_activation": None}
    return keras_pair(lambda: getattr(keras.applications, name)(**options, **settings), training=training)


def densenet():
    from keras.src.applications.densenet import DenseNet

    settings = {"weights": None, "input_shape": (32, 32, 3), "classes": 64, "classifier_activation": None}
    return keras_pair(lambda: DenseNet([2, 2, 2, 2], **settings), training=True)


def resnet(version: int):
    from keras.src.applications import resnet as r

    def stacks(x):
        if version == 1:
            return r.stack_residual_blocks_v1(
                r.stack_residual_blocks_v1(x, 32, 2, stride1=1, name="a"), 64, 2, name="b"
            )
        return r.stack_residual_blocks_v2(r.stack_residual_blocks_v2(x, 32, 2, name="a"), 64, 2, stride1=1, name="b")

    def make():
        return r.ResNet(
            stacks, version == 2, True, weights=None, input_shape=(32, 32, 3), classes=64, classifier_activation=None,
            name="resnet",
        )  # fmt: skip

    return keras_pair(make, training=True)


def recurrent(kind: str):
    import keras
    from keras import layers

    def make():
        first = layers.Bidirectional(getattr(layers, kind)(64, return_sequences=True))
        second = layers.Bidirectional(getattr(layers, kind)(64))
        stack = [keras.Input((24,), dtype="int32"), layers.Embedding(256, 64), first, second, layers.Dense(64)]
        return keras.Sequential(stack)

    return keras_pair(make)


def transformer():
    import keras
    from keras import layers

    def make():
        inputs = keras.Input((24,), dtype="int32")
        x = layers.Embedding(256, 64)(inputs)
        for _ in range(2):
            x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 16)(x, x, use_causal_mask=True))
            x = layers.LayerNormalization()(x + layers.Dense(64)(layers.Dense(128, activation="relu")(x)))
        x = layers.GlobalAveragePooling1D()(x)
        return keras.Model(inputs, layers.Dense(64)(layers.Dense(64, activation="relu")(x)))

    return keras_pair(make)


def separable():
    import keras
    from keras import layers

    def make():
        inputs = keras.Input((32, 32, 3))
        x = layers.Rescaling(1.0 / 255)(inputs)
        x = layers.Activation("relu")(layers.BatchNormalization()(layers.Conv2D(64, 3, strides=2, padding="same")(x)))
        before = x
        for size in (64, 128):
            for _ in range(2):
                x = layers.SeparableConv2D(size, 3, padding="same")(layers.Activation("relu")(x))
                x = layers.BatchNormalization()(x)
            x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
            before = layers.Conv2D(size, 1, strides=2, padding="same")(before)
            x = before = layers.add([x, before])
        return keras.Model(inputs, layers.Dense(64)(layers.GlobalAveragePooling2D()(x)))

    return keras_pair(make, training=True)


def bytes_(seed: int):
    return (np.random.default_rng(seed).integers(0, 256, (8, 32, 32, 3)).astype(np.float32),)


entry = functools.partial(Wild, package="keras")
MODELS = [
    entry("keras_mlp", mlp, normal(32, 64)),
    entry("keras_convnet", convnet, normal(16, 28, 28, 1)),
    entry("keras_mobilenet", functools.partial(application, "MobileNet", alpha=0.25), images),
    entry("keras_mobilenet_v2", functools.partial(application, "MobileNetV2", alpha=0.35), images),
    entry("keras_densenet", densenet, images),
    entry("keras_resnet", functools.partial(resnet, 1), images),
    entry("keras_resnet_v2", functools.partial(resnet, 2), images),
    entry("keras_xception", separable, bytes_),
    entry("keras_lstm", functools.partial(recurrent, "LSTM"), tokens),
    entry("keras_gru", functools.partial(recurrent, "GRU"), tokens),
    entry("keras_transformer", transformer, tokens),
]
