"""Every name given from Python: a wrong one is answered with those that there are and the nearest of them."""

import ast
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax import experiments
from qrjax._datasets._table import load
from qrjax._terminal._names import meant, nearest

LAYER, X = nn.Dense(4), jax.ShapeDtypeStruct((8, 3), jnp.float32)
PARAMS = {"kernel": np.ones((3, 4), np.float32)}


def swept():
    return qrjax.sweep(lambda seed: {"loss": jnp.float32(seed)}, 2, progress=False)


def masked(**options):
    return qrjax.mask(PARAMS, PARAMS, sparsity=0.5, **options)


# What is called with a wrong name, the argument, what is typed and what was meant.
SETTINGS = [
    (lambda name: qrjax.he_normal_qr(layout=name), "layout", "ouputs", "outputs"),
    (lambda name: qrjax.he_normal_qr(scramble=name), "scramble", "owens", "owen"),
    (lambda name: qrjax.variance_scaling_hash(2.0, name, "normal"), "mode", "fan_im", "fan_in"),
    (lambda name: qrjax.variance_scaling_qr(2.0, "fan_in", name), "distribution", "Uniform", "uniform"),
    (lambda name: qrjax.random.uniform((4,), source=name), "source", "sobel", "sobol"),
    (lambda name: qrjax.sobol.points(1, jnp.arange(4), scramble=name), "scramble", "shfit", "shift"),
    (lambda name: qrjax.sobol.discrepancy(np.ones((4, 2)) / 2, kind=name), "kind", "centered", "centred"),
    (lambda name: qrjax.autoinit(LAYER, X, distribution=name), "distribution", "ortogonal", "orthogonal"),
    (lambda name: qrjax.autoinit(LAYER, X, layout=name), "layout", "neuron", "neurons"),
    (lambda name: qrjax.autoinit(LAYER, X, source=name), "source", "hsah", "hash"),
    (lambda name: qrjax.autoinit(LAYER, X, tied=name), "tied", "logit", "logits"),
    (lambda name: qrjax.analyze(LAYER, X, weights=name), "weights", "modul", "module"),
    (lambda name: qrjax.analyze(LAYER, X, layout=name), "layout", "neuron", "neurons"),
    (lambda name: qrjax.record(LAYER, X, by=name), "by", "autoinint", "autoinit"),
    (lambda name: qrjax.prune(PARAMS, None, to=name), "to", "intial", "initial"),
    (lambda name: masked(criterion=name), "criterion", "movment", "movement"),
    (lambda name: masked(scope=name), "scope", "globel", "global"),
    (lambda name: qrjax.plot.losses({"a": np.ones((2, 3))}, yscale=name), "yscale", "Log", "log"),
    (lambda name: qrjax.plot.losses({"a": np.ones((2, 3))}, band=name), "band", "rnage", "range"),
    (lambda name: experiments.Settings(dataset=name), "dataset", "minst", "mnist"),
    (lambda name: experiments.Settings(model=name), "model", "CNN", "cnn"),
    (lambda name: experiments.Settings(initializer=name), "initializer", "he_norml", "he_normal"),
    (lambda name: experiments.Settings(source=name), "source", "sobel", "sobol"),
    (lambda name: experiments.Settings(optimizer=name), "optimizer", "adamw", "adam"),
    (lambda name: experiments.Scheme(name), "scheme", "auot", "auto"),
    (lambda name: experiments.compare([], baseline=name), "baseline", "randm", "random"),
    (load, "dataset", "CIFAR-10", "cifar10"),
]


@pytest.mark.parametrize(("call", "argument", "typed", "right"), SETTINGS)
def test_a_wrong_setting_is_answered_with_the_right_one(call, argument, typed, right):
    with pytest.raises(
        ValueError, match=rf"`{argument}` must be one of .*'{right}'.*, got '{typed}'; did you mean "
    ) as e:
        call(typed)
    assert repr(right) in str(e.value).rpartition("did you mean ")[2]


def test_the_table_has_every_setting_of_names():
    asked = set()
    for path in pathlib.Path(qrjax.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "choice"
            if named and isinstance(node.args[0], ast.Constant):
                asked.add(node.args[0].value)
    assert asked <= {argument for _, argument, _, _ in SETTINGS}


OTHERS = [
    (lambda: masked(whole="filtr"), ValueError, r"`whole` must be .*'filtr'; did you mean 'filter'\?"),
    (lambda: qrjax.rule("tanhh"), ValueError, r"got 'tanhh'; did you mean 'tanh' or 'atanh'\?"),
    (lambda: qrjax.autoinit(LAYER, X, select="kernal"), ValueError, r"matches no parameter.*did you mean 'kernel'\?"),
    (lambda: qrjax.autoinit(LAYER, X, layot="neurons"), TypeError, r"argument `layot`; did you mean 'layout'\?"),
    (lambda: qrjax.analyze(nn.Sequential([LAYER, nn.relu]), X)["layer_0"], KeyError, r"did you mean 'layers_0'\?"),
    (lambda: qrjax.record(LAYER, X).weight("kernal", 0), KeyError, r"paths: bias, kernel; did you mean 'kernel'\?"),
    (lambda: qrjax.changes(PARAMS, PARAMS)["Kernel"], KeyError, r"did you mean 'kernel'\?"),
    (lambda: swept()["los"], KeyError, r"names: loss; did you mean 'loss'\?"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "said"), OTHERS)
def test_so_is_the_name_of_something_else(call, kind, said):
    with pytest.raises(kind, match=said):
        call()


def test_names_that_are_like_none_of_jax_are_taken_for_ones_own():
    assert callable(qrjax.rule("my_fused_kernel"))


def test_nothing_is_guessed_where_nothing_is_near():
    assert meant("zzz", ["alpha", "beta"]) == meant(3, ["alpha"]) == meant(None, ["none"]) == ""
    assert nearest("kernel", ["Dense_0/bias", "Dense_0/kernel"]) == ["Dense_0/kernel"]
    assert nearest("CIFAR-10", ["mnist", "cifar10"]) == ["cifar10"]


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda file: qrjax.record(LAYER, X).save(file),
        lambda file: swept().to_csv(file),
    ],
)
def test_a_missing_folder_is_named_as_it_was_given(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"the folder '.*/nowhere' does not exist: 'nowhere/kept\.txt'"):
        write("nowhere/kept.txt")
