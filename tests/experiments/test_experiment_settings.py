"""What an experiment may be, the networks it means, and their initial weights."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._datasets._dataset import Dataset
from qrjax._datasets._table import DATASETS
from qrjax._experiments._initializers import kernel_inits
from qrjax._experiments._models import parameters
from qrjax._experiments._names import INITIALIZERS, SOURCES
from qrjax._experiments._settings import KINDS, MODELS, OPTIMIZERS
from qrjax._experiments._training import initial
from qrjax.experiments import Settings

IMAGES = Dataset(
    "digits", "images", np.ones((96, 8, 8, 1), np.float32), np.zeros(96, np.int32), np.ones((8, 8, 8, 1), np.float32),
    np.zeros(8, np.int32), 10, None,
)  # fmt: skip
TOKENS = Dataset(
    "imdb", "tokens", np.ones((96, 12), np.int32), np.zeros(96, np.int32), np.ones((8, 12), np.int32),
    np.zeros(8, np.int32), 2, 50,
)  # fmt: skip
DATA = {"images": (IMAGES, "digits"), "tokens": (TOKENS, "imdb")}
FITTING = [(model, kind) for model, its in MODELS.items() for kind in its.takes]


def settings(model, kind, **options):
    return Settings(
        dataset=DATA[kind][1], model=model, units=16, filters=(4, 6), heads=2, vocabulary=50, length=12, **options
    )


def kernels(params):
    """Of the tree of params: what an initializer of the paper drew."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return [leaf for path, leaf in leaves if "kernel" in path[-1].key]


class TestNetworks:
    @pytest.mark.parametrize(("model", "kind"), FITTING)
    def test_every_kernel_has_an_initializer_of_its_own(self, model, kind):
        data = DATA[kind][0]
        chosen = settings(model, kind, depth=3)
        drawn = []

        def counted(number):
            return lambda _key, shape, dtype=jnp.float32: drawn.append(number) or jnp.ones(shape, dtype)

        count = chosen.kernels(data)
        network = MODELS[model].build(chosen, data, tuple(map(counted, range(count))))
        logits, variables = jax.eval_shape(
            lambda: network.init_with_output(jax.random.key(0), jnp.asarray(data.train_inputs[:3]))
        )
        assert logits.shape == (3, data.classes)
        assert sorted(drawn) == list(range(count))
        assert len(kernels(variables["params"])) == count

    @pytest.mark.parametrize(
        ("model", "kind", "expected"),
        [
            ("mlp1", "images", (64 + 1) * 16 + (16 + 1) * 10),
            ("mlp2", "images", (64 + 1) * 16 + (16 + 1) * 16 + (16 + 1) * 10),
            ("cnn", "images", (9 + 1) * 4 + (9 * 4 + 1) * 6 + (4 * 4 * 6 + 1) * 16 + (16 + 1) * 10),
            ("lstm", "tokens", 50 * 16 + (16 + 16 + 1) * 64 + (16 + 1) * 2),
            ("lstm", "images", (8 + 16 + 1) * 64 + (16 + 1) * 10),
            (
                "transformer", "images",
                (8 + 1 + 8) * 16 + 2 * (4 * (16 + 1) * 16 + (16 + 1) * 64 + (64 + 1) * 16 + 4 * 16) + (16 + 1) * 10,
            ),
        ],
    )  # fmt: skip
    def test_number_of_parameters(self, model, kind, expected):
        data = DATA[kind][0]
        assert parameters(settings(model, kind).network(data), data.train_inputs[:1]) == expected

    def test_lstm_is_flax_own(self):
        """Keras's form of the gates, and Flax's cell: equal for equal weights."""
        import flax.linen as nn

        network = settings("lstm", "tokens").network(TOKENS)
        tokens = np.random.default_rng(2).integers(0, 50, (3, 12), np.int32)
        params = jax.jit(network.init)(jax.random.key(0), tokens)["params"]
        gates = dict(zip("ifgo", range(4), strict=True))
        slices = {gate: (..., slice(16 * place, 16 * place + 16)) for gate, place in gates.items()}
        params = jax.tree.map(np.asarray, params)
        theirs = {f"i{gate}": {"kernel": params["kernel"][part]} for gate, part in slices.items()} | {
            f"h{gate}": {"kernel": params["recurrent_kernel"][part], "bias": params["bias"][part]}
            for gate, part in slices.items()
        }
        embedded = params["Embed_0"]["embedding"][tokens]
        theirs_of = jax.jit(nn.RNN(nn.LSTMCell(16), return_carry=True).apply)
        (_, hidden), _ = theirs_of({"params": {"cell": theirs}}, embedded)
        dense, found = params["Dense_0"], jax.jit(network.apply)({"params": params}, tokens)
        np.testing.assert_allclose(found, np.asarray(hidden) @ dense["kernel"] + dense["bias"][None], atol=1e-5)

    def test_convolutions_and_pooling_are_flax_own(self):
        import flax.linen as nn

        network = settings("cnn", "images").network(IMAGES)
        x = np.random.default_rng(1).normal(size=(5, 9, 7, 1)).astype("f4")  # odd sizes: pooling leaves a border out
        variables = jax.jit(network.init)(jax.random.key(0), x)

        @nn.compact
        def plain(_module, x):
            x = nn.relu(nn.Conv(4, (3, 3))(x))
            x = nn.relu(nn.Conv(6, (3, 3))(nn.max_pool(x, (2, 2), (2, 2))))
            x = nn.relu(nn.Dense(16)(x.reshape(len(x), -1)))
            return nn.Dense(10)(x)

        twin = type("Plain", (nn.Module,), {"__call__": plain})()
        found, expected = jax.jit(lambda *given: (network.apply(*given), twin.apply(*given)))(variables, x)
        np.testing.assert_allclose(found, expected, atol=1e-5)


# One of each kind of scale and distribution.
FAST = {"he_normal", "orthogonal", "random_uniform", "random_normal"}


class TestInitialWeights:
    @pytest.mark.few("he_normal", "random_uniform")
    @pytest.mark.parametrize(
        "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in INITIALIZERS]
    )
    def test_all_sources_have_the_same_scale(self, name):
        sources = "random", "sobol", "hash"

        @jax.jit
        def drawn(key):
            return [kernel_inits(name, source, 1, 7)[0](key, (256, 192)) for source in sources]

        spread = {source: np.asarray(w).std() for source, w in zip(sources, drawn(jax.random.key(0)), strict=True)}
        assert spread["sobol"] == pytest.approx(spread["random"], rel=0.02)
        assert spread["hash"] == pytest.approx(spread["random"], rel=0.02)

    def test_the_papers_ten(self):
        assert len(INITIALIZERS) == 10
        for name in INITIALIZERS:
            assert hasattr(qrjax, f"{name}_qr"), name

    @pytest.mark.few("glorot_uniform")
    @pytest.mark.parametrize(
        "name", ["glorot_uniform", pytest.param("random_normal", marks=pytest.mark.slow), "orthogonal"]
    )
    def test_in_the_papers_order_kernel_k_has_dimension_start_plus_k(self, name):
        chosen = settings("mlp2", "images", initializer=name, source="sequence")
        params = initial(chosen, IMAGES)([3, 4], [5, 11])
        arguments = {"random_normal": (0.0, 0.05)}.get(name, ())
        for row, start in enumerate((5, 11)):
            for layer, shape in enumerate([(64, 16), (16, 16), (16, 10)]):
                builder = getattr(qrjax, f"{name}_qr")(*arguments, layout="sequence", dim=start + layer, scramble=None)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", qrjax.RankCollapseWarning)
                    expected = builder(jax.random.key(99), shape)
                np.testing.assert_allclose(params[f"Dense_{layer}"]["kernel"][row], expected, atol=1e-6)

    @pytest.mark.few("sobol", "hash", "autoinit")
    @pytest.mark.parametrize("source", SOURCES)
    def test_seeds_differ_and_biases_are_zero(self, source):
        chosen = settings("mlp1", "images", source=source)
        params = initial(chosen, IMAGES)([0, 1], [1, 3])
        assert (params["Dense_0"]["bias"] == 0).all()
        assert (params["Dense_0"]["kernel"][0] != params["Dense_0"]["kernel"][1]).mean() > 0.9

    def test_autoinit_keeps_the_signal(self):
        rng = np.random.default_rng(0)
        data = IMAGES._replace(train_inputs=rng.normal(size=(96, 8, 8, 1)).astype(np.float32))
        chosen = settings("mlp2", "images", source="autoinit", initializer="orthogonal")
        params = initial(chosen, data)(range(8), [None] * 8)
        apply = jax.jit(jax.vmap(lambda p: chosen.network(data).apply({"params": p}, data.train_inputs)))
        assert np.square(apply(params)).mean() == pytest.approx(1, abs=0.3)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"dataset": "mnst"}, "`dataset` must be one of .*, got 'mnst'; did you mean 'mnist'"),
            ({"model": "mlp3"}, "`model` must be one of .*, got 'mlp3'; did you mean 'mlp2' or 'mlp1'"),
            ({"model": "resnet"}, "`model` must be one of 'mlp1', 'mlp2', 'cnn', 'lstm', 'transformer', got 'resnet'$"),
            ({"initializer": "glorot"}, "`initializer` must be one of .*, got 'glorot'"),
            ({"source": "sobel"}, "`source` must be one of .*, got 'sobel'; did you mean 'sobol'"),
            ({"optimizer": "adamw"}, "`optimizer` must be one of .*, got 'adamw'; did you mean 'adam'"),
            ({"epochs": 0}, "`epochs` must be a positive integer, got 0"),
            ({"batch_size": 2.5}, "`batch_size` must be a positive integer, got 2.5"),
            ({"filters": (4, 0)}, "`filters` must be a positive integer, got 0"),
            ({"filters": ()}, r"`filters` must be positive integers, got \(\); for example \(16, 32\)"),
            ({"filters": 8}, "`filters` must be positive integers, got 8"),
            ({"learning_rate": True}, "`learning_rate` must be a positive number, got True"),
            ({"learning_rate": 10**400}, "`learning_rate` must be a positive number"),
            ({"units": 10**20}, "`units` must be a positive integer, got 100000000000000000000"),
            ({"model": "CNN"}, "`model` must be one of .*, got 'CNN'; did you mean 'cnn'"),
            ({"initializer": "he"}, "`initializer` must be .*, got 'he'; did you mean 'he_uniform' or 'he_normal'"),
            ({"limit": -1}, "`limit` must be a positive integer, got -1"),
            ({"learning_rate": float("nan")}, "`learning_rate` must be a positive number, got nan"),
            ({"model": "transformer", "units": 30}, "`units` 30 must be a multiple of `heads` 4"),
            ({"dataset": "imdb", "model": "cnn"}, "`model` 'cnn' takes images and `dataset` 'imdb' holds tokens: "
             "use one of lstm, transformer with it, or 'cnn' with digits, mnist1d, mnist, cifar10"),
            ({"depth": 0}, "`depth` must be a positive integer, got 0"),
            ({"model": "cnn", "norms": False}, "`norms` False is for a `model` that has some, 'transformer'"),
            ({"norms": "no"}, "`norms` must be True or False, got 'no'"),
            ({"validation": 0.95}, "`validation` must be a share of the training examples from 0 to 0.9, got 0.95"),
            ({"learning_rate": (0.1, 0.2)}, r"`learning_rate` \(0.1, 0.2\) is chosen on validation .*; give a share"),
            ({"learning_rate": (0.1, 0.1), "validation": 0.2}, "`learning_rate` must be one number or several differ"),
            ({"learning_rate": (0.1, -1), "validation": 0.2}, "`learning_rate` must be a positive number, got -1"),
        ],
    )  # fmt: skip
    def test_name_the_argument_the_value_and_the_remedy(self, options, said):
        with pytest.raises(ValueError, match=said):
            Settings(**options)

    def test_learning_rates_are_keras(self):
        assert {name: Settings(optimizer=name).learning_rate for name in OPTIMIZERS} == {
            "adam": 0.001, "sgd": 0.01, "momentum": 0.01,
        }  # fmt: skip

    def test_every_dataset_has_a_kind(self):
        assert set(KINDS) == set(DATASETS)
