"""MNIST-1D: what its package makes, from its own seed."""

import random
import sys

import numpy as np
import pytest

from qrjax import experiments
from qrjax._datasets._table import load


@pytest.fixture(scope="module")
def data():
    """And that global generators have no part in it, and go on."""
    pytest.importorskip("mnist1d")
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    before = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    found = load("mnist1d")
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # noqa: NPY002
    return found


def test_the_signals_are_the_packages(data):
    from mnist1d.data import get_dataset_args, make_dataset

    made = make_dataset(get_dataset_args())
    assert (data.name, data.kind, data.classes, data.vocabulary) == ("mnist1d", "images", 10, None)
    assert data.train_inputs.shape == (4000, 40, 1, 1)
    assert data.test_inputs.shape == (1000, 40, 1, 1)
    np.testing.assert_array_equal(data.train_inputs[..., 0, 0], made["x"].astype(np.float32))
    np.testing.assert_array_equal(data.test_inputs[..., 0, 0], made["x_test"].astype(np.float32))
    assert data.train_labels.tolist() == made["y"].tolist()
    assert data.test_labels.tolist() == made["y_test"].tolist()
    # As its authors publish it: a seed of 42, classes mixed.
    assert data.train_labels[:12].tolist() == [2, 6, 4, 5, 6, 6, 6, 0, 3, 1, 6, 9]
    assert data.train_inputs[0, :3, 0, 0].tolist() == pytest.approx([-0.33200567, -0.47191037, -0.77869708])


@pytest.mark.slow
def test_a_limit_takes_the_first(data):
    again = load("mnist1d", limit=100)
    np.testing.assert_array_equal(again.train_inputs, data.train_inputs[:100])
    assert len(again.test_labels) == 100


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"folder": "there"}, "`folder` must be None for mnist1d, which are made by the package mnist1d, got 'there'"),
        ({"checksums": True}, "`checksums` must be False for mnist1d"),
        ({"download": True}, "`download` must be False for mnist1d"),
    ],
)
def test_it_takes_no_files(options, match):
    with pytest.raises(ValueError, match=match):
        load("mnist1d", **options)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mnist1d.data", None)
    monkeypatch.setitem(sys.modules, "mnist1d", None)
    with pytest.raises(ImportError, match=r"mnist1d needs its package, .*: pip install 'qrjax\[bench\]'"):
        load("mnist1d")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp2", "cnn", "transformer"])
@pytest.mark.usefixtures("data")
def test_networks_learn_it(model, tmp_path):
    settings = experiments.Settings(dataset="mnist1d", model=model, epochs=3, limit=2000)
    (record,) = experiments.run(settings, 1, tmp_path / "r.jsonl", progress=False)
    assert record["accuracy"][-1] > 0.25  # chance is a tenth


def test_a_convolution_of_a_signal_has_three_taps(data):
    import flax.linen as nn
    import jax

    settings = experiments.Settings(dataset="mnist1d", model="cnn", filters=(4, 8, 16))
    network = settings.network(data)
    assert isinstance(network, nn.Module)
    shapes = jax.eval_shape(network.init, jax.random.key(0), data.train_inputs[:2])["params"]
    assert shapes["Conv_1"]["kernel"].shape == (3, 1, 4, 8)
    assert shapes["Dense_0"]["kernel"].shape == (10 * 16, 64)
    settings.check(data)
    with pytest.raises(ValueError, match=r"too many for images of 40 x 1, .*; at most 6"):
        experiments.Settings(dataset="mnist1d", model="cnn", filters=(2,) * 7).check(data)
