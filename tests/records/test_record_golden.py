"""Records that each version of the format wrote, and what they are for ever. Recipes: golden*.py."""

import hashlib
import json
import pathlib

import golden
import golden_3
import jax
import numpy as np
import pytest
from recorded import kinds, octets

from qrjax import Record
from qrjax._initializers._specification import Specification

FILE = json.loads((pathlib.Path(__file__).parent / "golden.json").read_text())
SECOND = json.loads((pathlib.Path(__file__).parent / "golden_2.json").read_text())
THIRD = json.loads((pathlib.Path(__file__).parent / "golden_3.json").read_text())
# The kind, and the first half of the SHA-256 of the array's bytes; the factorization's last bits are the machine's.
LEAVES = {
    "init": {
        "bfloat16": "drawn ffcc61fe7b60b08f333cb4336cea36aa",
        "constant/0": "constant f95946d66e9cee77522861fc9d79b73a",
        "constant/1": "constant 4961bda842a4a6cb99670567254517f5",
        "constant/2": "constant 67abdd721024f0ff4e0b3f4c2fc13bc5",
        "converted": "drawn 0df7ef212beae8a460d20a19ee4f443b",
        "factored": "orthogonal",
        "few": "stored 4231dcf94f1440a2deef3319b84b6d68",
        "hash/complex": "drawn 6c889476c1eb6e5e261338695648a1a5",
        "hash/lopsided": "drawn ae6a08ae6841d92d212a43d1f78792f8",
        "hash/normal": "drawn 5bbd432b7ce6a6485c5b15ab932cd369",
        "hash/stream": "drawn bb69c18efc380996278fb6d8af3c3d57",
        "hash/uniform": "drawn 91c660450e9caa621b22c305de918eee",
        "hash/zero_mean": "drawn d669bee0b1f26ebbd81571ffd8bc690e",
        "keys": "keys a894de79d47d51e9f302d7770d87c417",
        "model": "model",
        "reshaped": "drawn 8c2ef67c1cd3f0b69c231043406cefb0",
        "sobol/linear": "drawn 6f780e4088a550919efc01668fdfbdc2",
        "sobol/neurons": "drawn 3337c076f9253158d3c8916c27eb722f",
        "sobol/outputs": "drawn b930be2bcadb016a150751eb57241c7e",
        "sobol/points": "drawn 2970ab1d22d9c251c0d60fac68140e55",
        "sobol/sequence": "drawn 727c31c542fb3565548c764490c1fe82",
        "sobol/shuffled": "drawn 1a42a6a192ceca821d4a691017acf015",
        "stacked": "drawn 96cfeb0173b6622774cf0e5be84ba011",
    },
    "autoinit": {
        "head/bias": "constant 374708fff7719dd5979ec875d56cd228",
        "head/kernel": "drawn d324c21b44b33fa9f21fd2192e53eea9",
        "layers/Dense_0/kernel": "drawn cbe79797b575e66837d489f6d3e2dad6",
        "narrow/bias": "constant 15ec7bf0b50732b49f8228e07d243653",
        "narrow/kernel": "drawn fd35eae7cd54e0e81b0824fc478025dc",
        "norm/bias": "constant 9d908ecfb6b256def8b49a7c504e6c88",
        "norm/scale": "constant f46913286d895f62d646314f400fc3d7",
    },
}
WEIGHTS = [
    ("init", "sobol/outputs", (6, 4), "0x1.b9c2ee0000000p-1"),
    ("init", "sobol/neurons", (2, 0, 3, 5), "0x1.a958b40000000p-3"),
    ("init", "hash/normal", 30, "0x1.eecec40000000p-2"),
    ("init", "hash/zero_mean", (0, 0), "0x1.505e080000000p-1"),
    ("init", "stacked", (2, 3, 4), "-0x1.68f8140000000p-1"),
    ("init", "reshaped", (2, 3, 1, 4), "-0x1.56636c0000000p-3"),
    ("init", "bfloat16", (3, 5), "0x1.0c00000000000p-1"),
    ("autoinit", "layers/Dense_0/kernel", (2, 8, 0), "0x1.526c800000000p-3"),
    ("autoinit", "narrow/kernel", (8, 5), "-0x1.1e00000000000p-6"),
    ("autoinit", "head/kernel", (-1, -1), "0x1.2768660000000p-1"),
    ("autoinit", "norm/scale", (0,), "0x1.0000000000000p+0"),
]


@pytest.mark.parametrize("name", LEAVES)
def test_every_variable_is_what_it_was(name):
    record = Record.from_dict(FILE[name])
    found = {}
    for path, kind in kinds(record).items():
        exact = kind not in ("model", "orthogonal")
        found[path] = kind + (f" {hashlib.sha256(octets(record.initial(path))).hexdigest()[:32]}" if exact else "")
    assert found == LEAVES[name]


@pytest.mark.few("init-sobol/neurons*", "init-stacked*", "autoinit-narrow*", "autoinit-norm*")
@pytest.mark.parametrize(("name", "path", "index", "expected"), WEIGHTS)
def test_single_weights_are_what_they_were(name, path, index, expected):
    assert float(Record.from_dict(FILE[name]).weight(path, index)).hex() == expected


def test_the_orthogonal_one_is_orthogonal():
    matrix = np.asarray(Record.from_dict(FILE["init"]).initial("factored"), np.float64)
    np.testing.assert_allclose(matrix.T @ matrix, 0.49 * np.eye(4), atol=1e-6)


def test_the_models_own_needs_the_model():
    record = Record.from_dict(FILE["init"])
    with pytest.raises(LookupError, match="'model' come from a builder of the model's own"):
        record.initial("model")
    attached = record.with_model(golden.init)
    assert octets(attached.initial("model")) == octets(jax.random.normal(golden.KEY, (3, 3)))
    assert jax.tree.structure(attached.initial()) == jax.tree.structure(jax.eval_shape(golden.init, golden.KEY))


def test_the_factors_are_kept_exactly():
    record = Record.from_dict(FILE["autoinit"])
    layers, narrow = (record.entry(f"{name}/kernel").origin for name in ("layers/Dense_0", "narrow"))
    assert [f.shape for f in layers.factors] == [(3,), (3,)]
    assert [f.shape for f in narrow.factors] == [(), ()]
    assert all(f.dtype == np.float32 for f in (*layers.factors, *narrow.factors))


# Of version 2, by layout: digests as above.
STACKED = {
    "outputs": {
        "along_0/Dense_0/kernel": "c9c1c4d75cdd4151b0866007417fb556",
        "along_1/Dense_0/kernel": "4b3e94c410839b31ec2e166f435724da",
    },
    "neurons": {
        "along_0/Dense_0/kernel": "4ce693c9fabcbdeaf260205ed60731a4",
        "along_1/Dense_0/kernel": "ae7e60c11545a1f5bf1a3d5e3c5f1e7e",
    },
}


@pytest.mark.parametrize("layout", STACKED)
def test_layers_along_any_axis_are_what_they_were(layout):
    record = Record.from_dict(SECOND[layout])
    found = {p: hashlib.sha256(octets(record.initial(p))).hexdigest()[:32] for p in record.paths if "along" in p}
    assert found == STACKED[layout]


def test_of_stacked_layers_a_neuron_sums_over_inputs():
    """In version 1 the two axes were taken for each other, as its entries say; what is drawn from them stays."""
    record = Record.from_dict(SECOND["neurons"])
    for path, axis, inputs in (("along_0", 0, 1), ("along_1", 1, 0)):
        kernel = np.asarray(record.initial(f"{path}/Dense_0/kernel"))
        over_inputs, over_outputs = (np.abs(kernel.sum(a)).mean() for a in (inputs, 3 - axis - inputs))
        assert over_inputs < 0.5 * over_outputs, f"{path}: {over_inputs:.2f}, {over_outputs:.2f}"
    old = next(leaf for leaf in FILE["autoinit"]["leaves"] if leaf["path"] == "layers/Dense_0/kernel")
    assert (old["origin"]["drawn"]["inputs"], old["origin"]["drawn"]["outputs"]) == ([1], [0])


def test_orthogonal_layers_along_any_axis_are_orthogonal():
    record = Record.from_dict(SECOND["orthogonal"])
    for path, axis in (("along_0", 0), ("along_1", 1)):
        kernel = np.moveaxis(np.asarray(record.initial(f"{path}/Dense_0/kernel"), np.float64), axis, 0)
        squares = np.einsum("lij,lik->ljk", kernel, kernel)
        np.testing.assert_allclose(squares, squares[:, :1, :1] * np.eye(7), atol=1e-5)


# Of version 3: normal quantiles from tables.
TABLED = {
    "bfloat16": "drawn adcf011c45d423e63d6fcb5300b5cae4",
    "complex": "drawn 4ea3133f04c12320491b1a7312612d69",
    "factored": "orthogonal",
    "hash": "drawn 0515b10ff3d133ea2df0c04e3ffb0fbe",
    "lopsided": "drawn 2be0905b32af5396efc63219da19acb5",
    "neurons": "drawn 141c317aeff2395fafd076ac0e07b5dc",
    "outputs": "drawn 157b4170062a6e89b6f81f59a0f88da4",
    "points": "drawn 3d6127b14f54607f8557d9d38367d269",
    "sequence": "drawn 747c4083eade4f593cc71ba5eb048a47",
    "shuffled": "drawn 9a3c1106fe7bfa3d321bfa8212cecf64",
    "stacked": "drawn 3e81c2a82e0e64a1d977fcc355883303",
    "uniform": "drawn ed0284f06276446c1e70a7b593484890",
    "zero_mean": "drawn 3973d60f0a9fdd3ca1f91aab229cace2",
}


def test_quantiles_from_tables_are_what_they_were():
    record = Record.from_dict(THIRD["init"])
    found = dict(kinds(record))
    for path in (p for p, kind in found.items() if kind != "orthogonal"):
        found[path] += f" {hashlib.sha256(octets(record.initial(path))).hexdigest()[:32]}"
    assert found == TABLED


def test_a_law_without_a_word_on_its_quantile_keeps_its_polynomials():
    data = json.loads(json.dumps(THIRD["init"]))
    drawn = {leaf["path"]: leaf["origin"]["drawn"] for leaf in data["leaves"] if "drawn" in leaf["origin"]}
    laws = [Specification.from_dict(d).distribution for d in drawn.values()]
    assert [law.is_tabled for law in laws] == [path not in ("lopsided", "uniform") for path in drawn]
    old = [Specification.from_dict(d | {"distribution": without(d["distribution"])}) for d in drawn.values()]
    assert not any(spec.distribution.is_tabled for spec in old)
    assert [spec.to_dict()["distribution"] for spec in old] == [without(d["distribution"]) for d in drawn.values()]


def without(law):
    return {name: value for name, value in law.items() if name != "quantile"}


def test_writing_has_not_changed_without_a_new_version():
    written = json.loads(json.dumps(golden_3.golden_init()))
    assert written["version"] == THIRD["init"]["version"] == 3
    assert set(written) == set(FILE["init"])
    assert written["leaves"] == THIRD["init"]["leaves"]
