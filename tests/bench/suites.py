"""Other libraries' own tests, run on qrjax: a plugin of pytest for their unpacked sources.

    pip download --no-deps --no-binary :all: dm-haiku==0.0.17 && tar xf dm_haiku-0.0.17.tar.gz && cd dm_haiku-0.0.17
    PYTHONPATH=$QRJAX:$QRJAX/tests/bench pytest -p suites --ours haiku -c /dev/null haiku/_src/initializers_test.py

What `--ours` names is put in the place of the library's own before its tests are imported:

    jax, haiku, keras  the random initializers, by our builders of the same names; `jax` is also what Flax draws by
    scipy              qmc.Sobol and qmc.discrepancy
    optax              adam, adamw and sgd, with scale_by_width of ones behind them
    linen, nnx         nothing, but autoinit, record, measure and analyze run beside each network that a test
                       initializes (linen) or calls (nnx) outside of a trace, and are compared with it

Tests of messages, of seeds' values and of how often something is traced cannot hold; notebooks/tests.md counts them.
"""

from __future__ import annotations

import collections
import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import qrjax


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--ours", choices=sorted(SUBSTITUTES), required=True, help="what is ours in these tests")
    parser.addoption("--every", type=int, default=1, help="of each test's parameters every k-th alone")


def pytest_configure(config: Any) -> None:
    SUBSTITUTES[config.getoption("ours")]()


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    seen: collections.Counter[str] = collections.Counter()
    every, kept = config.getoption("every"), []
    for item in items:
        name = item.nodeid.split("[")[0].rstrip("0123456789")
        if seen[name] % every == 0:
            kept.append(item)
        seen[name] += 1
    items[:] = kept


# -- initializers -----------------------------------------------------------------------------------------------------


def jax_builders() -> None:
    import jax.nn.initializers as theirs

    stems = {name.removesuffix("_qr") for name in qrjax.__all__ if name.endswith("_qr")}
    for stem in stems & set(dir(theirs)):
        setattr(theirs, stem, getattr(qrjax, f"{stem}_qr"))


def scaled(scale: float, mode: str, distribution: str, shape: Any, inputs: Any, outputs: Any) -> Any:
    """By the axes that Haiku and Keras take for inputs and outputs, which of vectors are both the one they have."""
    if inputs is None and len(shape) < 2:
        inputs = outputs = tuple(range(len(shape)))
    axes = {} if inputs is None else {"in_axis": tuple(inputs), "out_axis": tuple(outputs)}
    return qrjax.variance_scaling_qr(scale, mode, distribution.removeprefix("un"), **axes)  # type: ignore[arg-type]


def haiku_builders() -> None:
    import haiku as hk
    from haiku._src import initializers as theirs

    def builders(builder: Callable[[Any, Any], Any]) -> Callable[..., Any]:
        return lambda self, shape, dtype: builder(self, shape)(hk.next_rng_key(), shape, dtype)

    def varied(self: Any, shape: Any) -> Any:
        inputs = self.fan_in_axes
        outputs = None if inputs is None else [axis for axis in range(len(shape)) if axis not in inputs]
        return scaled(self.scale, self.mode, self.distribution, shape, inputs, outputs)

    theirs.RandomNormal.__call__ = builders(lambda s, _: qrjax.random_normal_qr(s.mean, s.stddev))
    theirs.RandomUniform.__call__ = builders(lambda s, _: qrjax.random_uniform_qr(s.minval, s.maxval))
    theirs.TruncatedNormal.__call__ = builders(lambda s, _: qrjax.truncated_normal_qr(s.stddev, None, s.lower, s.upper))
    theirs.Orthogonal.__call__ = builders(lambda s, _: qrjax.orthogonal_qr(s.scale, s.axis))
    theirs.VarianceScaling.__call__ = builders(varied)


def keras_builders() -> None:
    from keras.src import backend
    from keras.src.backend.jax.random import jax_draw_seed
    from keras.src.initializers import random_initializers as theirs

    def builders(builder: Callable[[Any, Any], Any]) -> Callable[..., Any]:
        def call(self: Any, shape: Any, dtype: Any = None) -> Any:
            return builder(self, shape)(jax_draw_seed(self.seed), tuple(shape), backend.standardize_dtype(dtype))

        return call

    def varied(self: Any, shape: Any) -> Any:
        return scaled(self.scale, self.mode, self.distribution, shape, self.input_axes, self.output_axes)

    theirs.RandomNormal.__call__ = builders(lambda s, _: qrjax.random_normal_qr(s.mean, s.stddev))
    theirs.RandomUniform.__call__ = builders(lambda s, _: qrjax.random_uniform_qr(s.minval, s.maxval))
    theirs.TruncatedNormal.__call__ = builders(lambda s, _: qrjax.truncated_normal_qr(s.stddev))
    theirs.Orthogonal.__call__ = builders(lambda s, _: qrjax.orthogonal_qr(s.gain))
    theirs.VarianceScaling.__call__ = builders(varied)


# -- sequences and updates --------------------------------------------------------------------------------------------


def scipy_sequences() -> None:
    from scipy.stats import _qmc, qmc

    kinds = {"CD": "centred", "WD": "wrap-around", "MD": "mixture", "L2-star": "l2-star"}

    class Sobol(qmc.QMCEngine):
        """Points by their number, so that going on, back and forward are arithmetic on it."""

        MAXDIM = qrjax.sobol.DIMENSIONS

        def __init__(self, d: int, *, scramble: bool = True, bits: Any = None, rng: Any = None, seed: Any = None,
                     optimization: Any = None):  # fmt: skip
            super().__init__(d, optimization=optimization, rng=seed if rng is None else rng)
            if d > self.MAXDIM:
                raise ValueError(f"Maximum supported dimensionality is {self.MAXDIM}")
            if bits not in (None, 30):
                raise ValueError("ours have 32 bits")
            self.options = {"scramble": "linear", "key": jax.random.key(int(self.rng.integers(2**31)))}
            if not scramble:
                self.options = {"scramble": None}

        def _random(self, n: int = 1, **_: Any) -> Any:
            if not self.d or not n:
                return np.empty((n, self.d))
            index = np.arange(self.num_generated, self.num_generated + n, dtype=np.uint32)
            words = jax.vmap(lambda dim: qrjax.sobol.bits(dim, index, **self.options))(np.arange(1, self.d + 1))
            return np.asarray(words).T * 2.0**-32

        def random_base2(self, m: int) -> Any:
            if (self.num_generated + 2**m).bit_count() > 1:
                raise ValueError("The balance properties of Sobol' points require n to be a power of 2.")
            return self.random(2**m)

        def reset(self) -> Sobol:
            self.num_generated = 0
            return self

        def fast_forward(self, n: int) -> Sobol:
            self.num_generated += n
            return self

    qmc.Sobol = _qmc.Sobol = Sobol
    qmc.discrepancy = lambda sample, method="CD", **_: qrjax.sobol.discrepancy(sample, kinds.get(method, method))


def optax_rates() -> None:
    import optax
    from optax._src import alias, base, combine

    def ones(tree: Any) -> Any:
        return qrjax.scale_by_width(jax.tree.map(lambda _: 1.0, tree))

    def init(params: Any) -> Any:
        return ones(params).init(params) if jax.tree.leaves(params) else base.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return ones(updates).update(updates, state, params) if jax.tree.leaves(updates) else (updates, state)

    last = base.GradientTransformation(init, update)

    def behind(optimizer: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(optimizer)(lambda *args, **kwargs: combine.chain(optimizer(*args, **kwargs), last))

    for name in ("adam", "adamw", "sgd"):
        made = behind(getattr(alias, name))
        setattr(alias, name, made)
        setattr(optax, name, made)


# -- networks ---------------------------------------------------------------------------------------------------------

OUTCOMES: collections.Counter[str] = collections.Counter()
MET: set[str] = set()
BUSY: list[bool] = []


def described(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(np.shape(leaf), str(getattr(leaf, "dtype", type(leaf)))) for leaf in leaves]


def tried(what: str, function: Callable[[], Any]) -> Any:
    """The result, or None after an error, which is counted by its first words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = function()
        except Exception as error:
            OUTCOMES[f"{what}: {type(error).__name__}: {str(error)[:90]}"] += 1
            return None
    OUTCOMES[f"{what}: ran"] += 1
    return result


def compared(what: str, first: Any, second: Any) -> None:
    if first is not None and described(first) != described(second):
        OUTCOMES[f"{what}: differs from the network's own in structure, shapes or dtypes"] += 1


def equal(what: str, first: Any, second: Any) -> None:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    if first is not None and not all(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True) for a, b in pairs):
        OUTCOMES[f"{what}: other bits"] += 1


def beside(function: Callable[..., Any], look: Callable[..., None], name: Callable[..., str]) -> Callable[..., Any]:
    """The library's function, with `look` after it at each network and kind of arguments once."""

    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if BUSY or not jax._src.core.trace_state_clean():
            return function(self, *args, **kwargs)
        BUSY.append(True)
        try:
            result = function(self, *args, **kwargs)
            arrays = jax.tree.map(lambda leaf: (np.shape(leaf), str(getattr(leaf, "dtype", leaf))), (args, kwargs))
            key = f"{name(self)} {arrays}"
            if key not in MET:
                MET.add(key)
                with jax.numpy_dtype_promotion("standard"):
                    look(self, args, kwargs, result)
            return result
        finally:
            BUSY.pop()

    return call


def linen_networks() -> None:
    import flax.linen as nn

    def look(module: Any, args: Any, kwargs: Any, made: Any) -> None:
        if module.scope is not None:
            return
        rngs, *inputs = args or (kwargs["rngs"],)
        named = {k: v for k, v in kwargs.items() if k not in ("rngs", "method", "mutable", "capture_intermediates")}
        options: dict[str, Any] = {"call_kwargs": named, "method": kwargs.get("method")}
        streams = {"rngs": dict(rngs)} if hasattr(rngs, "keys") else {}
        variables = tried("autoinit", lambda: qrjax.autoinit(module, *inputs, **options, **streams))
        compared("autoinit", variables, made)
        how = streams or {"key": rngs}
        record = tried("record of init", lambda: qrjax.record(module, *inputs, by="init", **options, **how))
        if variables is None:
            return
        if record is not None:
            equal("record of init", record.initial(), made)
        again = tried("record", lambda: qrjax.record(module, *inputs, **options, **streams))
        equal("record", again and again.initial(), variables)
        tried("measure", lambda: qrjax.measure(module, variables, *inputs, **options, **streams))
        tried("analyze", lambda: qrjax.analyze(module, *inputs, gradients=True, **options, **streams))

    nn.Module.init = beside(nn.Module.init, look, repr)
    with_output = beside(nn.Module.init_with_output, lambda *a: look(*a[:-1], a[-1][1]), repr)
    nn.Module.init_with_output = with_output


def nnx_networks() -> None:
    from flax import nnx

    def look(module: Any, args: Any, kwargs: Any, _: Any) -> None:
        if not isinstance(module, nnx.Module):
            return
        before = nnx.split(module)
        made = tried("autoinit", lambda: qrjax.autoinit(module, *args, call_kwargs=kwargs))
        equal("autoinit on its argument", jax.tree.map(words, nnx.state(module)), jax.tree.map(words, before[1]))
        if made is None:
            return
        compared("autoinit", nnx.state(made), before[1])
        record = tried("record", lambda: qrjax.record(module, *args, call_kwargs=kwargs))
        found = record and jax.tree.map(words, nnx.state(record.initial()))
        equal("record", found, jax.tree.map(words, nnx.state(made)))
        tried("measure", lambda: qrjax.measure(module, made, *args, call_kwargs=kwargs))
        tried("analyze", lambda: qrjax.analyze(module, *args, call_kwargs=kwargs, gradients=True))

    def words(leaf: Any) -> Any:
        return jax.random.key_data(leaf) if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    def name(module: Any) -> str:
        return f"{type(module).__qualname__} {described(nnx.state(module))}"

    def hooked(kind: type) -> None:
        if "__call__" in vars(kind):
            kind.__call__ = beside(vars(kind)["__call__"], look, name)  # type: ignore[operator]

    waiting = [nnx.Module]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        hooked(kind)
    begin = nnx.Module.__init_subclass__.__func__

    def begun(cls: type, *args: Any, **kwargs: Any) -> None:
        begin(cls, *args, **kwargs)
        hooked(cls)

    nnx.Module.__init_subclass__ = classmethod(begun)


SUBSTITUTES = {
    "jax": jax_builders, "haiku": haiku_builders, "keras": keras_builders, "scipy": scipy_sequences,
    "optax": optax_rates, "linen": linen_networks, "nnx": nnx_networks,
}  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    if MET:
        terminalreporter.section(f"qrjax beside {len(MET)} networks")
        for outcome, count in sorted(OUTCOMES.items()):
            terminalreporter.line(f"{count:4} {outcome}")
