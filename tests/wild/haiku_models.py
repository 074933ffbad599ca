"""Haiku's own networks and layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from .model import Wild, haiku_pair, normal


def images(seed: int):
    return (np.random.default_rng(seed).standard_normal((8, 32, 32, 3), np.float32),)


def tokens(seed: int):
    return (np.random.default_rng(seed).integers(0, 256, (8, 24), np.int32),)


def mlp():
    import haiku as hk

    return haiku_pair(lambda x: hk.nets.MLP([128, 128, 64])(x))


def resnet(v2: bool):
    import haiku as hk

    def forward(x):
        net = hk.nets.ResNet(
            (1, 1, 1, 1), 64, resnet_v2=v2, bottleneck=True, channels_per_group=(32, 64, 64, 128),
            logits_config={"w_init": None},
        )  # fmt: skip
        return net(x, is_training=True)

    return haiku_pair(forward)


def mobilenet():
    import haiku as hk

    def forward(x):
        net = hk.nets.MobileNetV1(strides=(1, 2, 1), channels=(32, 64, 64), num_classes=64)
        return net(x, is_training=True)

    return haiku_pair(forward)


def language(*cores: str, relu: bool = False):
    """Tokens through recurrent cores to logits for each next one."""
    import haiku as hk

    def forward(x):
        embedded = hk.Embed(256, 64)(x)
        between = [jax.nn.relu] if relu else []
        layers = [layer for core in cores for layer in [getattr(hk, core)(64), *between]]
        deep = hk.DeepRNN(layers[: len(layers) - len(between)])
        outputs, _ = hk.dynamic_unroll(deep, embedded, deep.initial_state(8), time_major=False)
        return hk.Linear(256)(outputs)

    return haiku_pair(forward)


def transformer():
    """Attention with a causal mask and an MLP, behind norms."""
    import haiku as hk

    def forward(x):
        x = hk.Embed(256, 64)(x)
        mask = np.tril(np.ones((1, 1, 24, 24), bool))
        scale = hk.initializers.VarianceScaling(1.0)
        for _ in range(2):
            y = hk.LayerNorm(-1, True, True)(x)
            x = x + hk.MultiHeadAttention(4, 16, w_init=scale, model_size=64)(y, y, y, mask=mask)
            y = hk.LayerNorm(-1, True, True)(x)
            x = x + hk.Linear(64)(jax.nn.gelu(hk.Linear(128)(y)))
        return hk.Linear(256)(hk.LayerNorm(-1, True, True)(x))

    return haiku_pair(forward)


def vae():
    import haiku as hk

    def forward(x):
        x = jax.nn.relu(hk.Linear(128)(x))
        mean, log_deviation = hk.Linear(16)(x), hk.Linear(16)(x)
        z = mean + jnp.exp(log_deviation) * jax.random.normal(hk.next_rng_key(), mean.shape)
        return hk.Linear(64)(jax.nn.relu(hk.Linear(128)(z)))

    return haiku_pair(forward)


def frames():
    """An agent's: convolutions see steps and examples as one axis, a recurrent core has them apart."""
    import haiku as hk

    def forward(x):
        layers = [hk.Conv2D(16, 3, 2), jax.nn.relu, hk.Flatten(), hk.Linear(64), jax.nn.relu]
        seen = hk.BatchApply(hk.Sequential(layers))(x)
        core = hk.GRU(64)
        outputs, _ = hk.dynamic_unroll(core, seen, core.initial_state(x.shape[1]))
        return hk.BatchApply(hk.Linear(64))(outputs)

    return haiku_pair(forward)


entry = functools.partial(Wild, package="haiku")
MODELS = [
    entry("haiku_mlp", mlp, normal(32, 64)),
    entry("haiku_resnet", functools.partial(resnet, False), images),
    entry("haiku_resnet_v2", functools.partial(resnet, True), images),
    entry("haiku_mobilenet", mobilenet, images),
    entry("haiku_lstm", functools.partial(language, "LSTM"), tokens),
    entry("haiku_two_lstms", functools.partial(language, "LSTM", "LSTM", relu=True), tokens),
    entry("haiku_gru", functools.partial(language, "GRU"), tokens),
    entry("haiku_vanilla_rnn", functools.partial(language, "VanillaRNN"), tokens),
    entry("haiku_transformer", transformer, tokens),
    entry("haiku_batch_apply", frames, normal(8, 4, 16, 16, 3)),
    entry("haiku_vae", vae, normal(32, 64)),
]
