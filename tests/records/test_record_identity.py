"""A record as a value: equal to its JSON read again, pickled as that, and printed on a page."""

import concurrent.futures
import copy
import multiprocessing
import pickle
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._records._entries import Entry
from qrjax._records._origins import Keys, Stored
from qrjax._records._record import Record
from qrjax._records._summary import law_of, page

X = jax.ShapeDtypeStruct((2, 32), jnp.float32)
KEY = jax.random.key(3)


class Network(nn.Module):
    """Layers under a scan, of other precision, of a builder that is not ours, and a constant."""

    depth: int = 1

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth):
            x = nn.relu(nn.Dense(32, kernel_init=qrjax.he_normal_hash(zero_mean=True))(x))
        x = nn.Dense(32, kernel_init=qrjax.uniform_qr(0.5), name="positive")(x)
        x = nn.Dense(32, kernel_init=qrjax.orthogonal_qr(2.0), name="rotation")(x)
        x = nn.Dense(32, kernel_init=qrjax.truncated_normal_hash(0.1, None, -1.0, 3.0), name="lopsided")(x)
        return nn.Dense(
            9, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, kernel_init=nn.initializers.normal(), name="theirs"
        )(x)


@pytest.fixture(scope="module")
def records():
    """By name; "own" has the others' values times factors."""
    return {
        "init": qrjax.record(Network(), X, by="init", key=KEY),
        "autoinit": qrjax.record(Network(), X, seed=3),
        "own": qrjax.record(Network(), X, seed=3, distribution="own"),
        "orthogonal": qrjax.record(Network(), X, seed=3, distribution="orthogonal"),
    }


NAMES = ("init", "autoinit", "own", "orthogonal")
each = pytest.mark.parametrize("name", NAMES)


@each
def test_equal_to_its_json_and_to_nothing_else(records, name):
    record = records[name]
    again = qrjax.Record.from_json(record.to_json())
    assert again == record
    assert hash(again) == hash(record)
    assert [other for other in NAMES if records[other] == record] == [name]
    assert record != record.to_dict()
    assert len({record, again, *records.values()}) == len(records)


@each
def test_pickled_as_its_json(records, name):
    record = records[name]
    again = pickle.loads(pickle.dumps(record))
    assert again == record
    path = "Dense_0/kernel"
    assert again.rebuild is None
    if name != "orthogonal":
        np.testing.assert_array_equal(again.weight(path, (3, ...)), record.weight(path, (3, ...)))
    assert copy.copy(record) is record
    assert copy.deepcopy({"record": record})["record"] is record  # with the model's code


@pytest.mark.slow
def test_sent_to_a_worker(records):
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(Record.weight, records["init"], "Dense_0/kernel", (3, 4)).result()
    assert there == records["init"].weight("Dense_0/kernel", (3, 4))


def test_a_plain_initialization_asks_for_its_key():
    with pytest.raises(
        ValueError, match=r"`key` must be given with by='init': .*record\(module, x, by='init', key=key\)"
    ):
        qrjax.record(Network(), X, by="init")
    for given in ({"key": jax.random.key(5)}, {"seed": 5}, {"rngs": {"params": jax.random.key(5)}}):
        found = qrjax.record(Network(), X, by="init", **given)
        assert found.made["key"] == {"words": [0, 5], "impl": "threefry2x32"}


@each
def test_the_scales_on_the_page_are_those_of_the_values(records, name):
    for entry in records[name].entries:
        law, values = law_of(entry.origin), np.asarray(entry.origin.array(), np.float64)
        if np.isnan(law.least):
            assert law.name in ("the model's own", "constant 0"), law
            assert values.std() == 0 or law.name != "constant 0"
        elif not law.relative:
            assert law.least == law.most == pytest.approx(values.std(), rel=0.1), entry.leaf.path
            assert values.mean() == pytest.approx(law.mean, abs=4 * values.std() / values.size**0.5), entry.leaf.path


def test_a_page_says_what_every_variable_is(records):
    assert str(records["init"]).splitlines()[:6] == [
        "Record of 10 variables, 4,521 weights, by init",
        f"key 0 3 (threefry2x32); qrjax {qrjax.__version__}, jax {jax.__version__}; float32 where not said",
        "",
        "variable         shape          law, mean ± stddev               source",
        "Dense_0/bias     32             constant 0",
        "Dense_0/kernel   32x32          trunc. normal ± 0.25             hash zero-mean",
    ]
    assert repr(records["init"]) == str(records["init"])


def test_a_long_record_is_folded_and_cut():
    deep = qrjax.record(Network(12), X, by="init", key=KEY)
    shown = str(deep).splitlines()
    assert len(shown) < 20
    assert any(re.match(r"Dense_\*/kernel \(12\) +32x32 +trunc\. normal ± 0\.25 ", line) for line in shown)
    entry = deep.entries[0]
    names = [
        Entry(entry.leaf.__class__(f"{'x' * (40 + i)}", (3,), np.dtype("float32"), True), entry.origin)
        for i in range(60)
    ]
    long = page(names, deep.made)
    assert "... 21 rows more; to_json(indent=1) has every variable" in long
    for text in (*map(str, shown), *long.splitlines()[2:]):
        assert len(text) <= 80, text


def test_values_that_have_no_law():
    words = np.zeros((2, 2), np.uint32)
    assert law_of(Keys((2,), KEY.dtype, words)).name == "keys"
    assert law_of(Stored((2,), np.dtype("float32"), np.array([1, 2], np.float32))).name == "stored values"
    empty = Record((), {"by": "init", "key": {"words": [0, 0], "impl": None}})
    assert str(empty).startswith("Record of 0 variables, 0 weights, by init")
