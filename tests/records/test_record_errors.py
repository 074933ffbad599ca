"""Files and arguments that are not what they should be: which one, what was wrong, what to do; nothing half done."""

import copy
import json
import os
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from recorded import assert_same, kinds

import qrjax
from qrjax import Record

X = jnp.ones((2, 8))
KEY = jax.random.key(1)
SHAPES = jax.ShapeDtypeStruct((2, 8), jnp.float32)
JAXS = nn.initializers.normal(1.0)


def network(width=4, **options):
    return nn.Sequential([nn.Dense(width, kernel_init=qrjax.he_normal_hash()), nn.relu, nn.Dense(3, **options)])


@pytest.fixture(scope="module")
def record():
    return qrjax.record(network(), X, by="init", key=KEY)


@pytest.fixture(scope="module")
def text(record):
    return record.to_json(indent=1)


def signed(data):
    """As a program would write it that gets the content wrong and the digest right."""
    from qrjax._records._format import _digest

    return data | {"sha256": _digest(data)}


# Corrupt text.


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file(text, tmp_path, share):
    file = tmp_path / "cut.json"
    file.write_text(text[: int(share * len(text))])
    with pytest.raises(ValueError, match=re.escape(str(file)) + r": the record is no JSON \(.*\); save it again"):
        Record.load(file)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x81", b"[" * 100_000, b"\x00" * 40], ids=["bytes", "depth", "zero"])
def test_a_file_of_something_else(tmp_path, content):
    file = tmp_path / "other"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(file)) + r": .*(no JSON|can't decode)"):
        Record.load(file)


@pytest.mark.parametrize("other", ["3", "null", "[]", "{}", '"qrjax.record"', '{"format": "qrjax.report"}'])
def test_json_that_is_no_record(other):
    with pytest.raises(ValueError, match=r"this is no record: its `format` is not 'qrjax\.record'"):
        Record.from_json(other)


def test_every_flipped_digit_is_noticed(text, record):
    digits = [m.start() for m in re.finditer(r"[0-9]", text)]
    for place in digits[:: max(1, len(digits) // 60)]:
        flipped = text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]
        if json.loads(flipped) == record.to_dict():
            continue  # beyond the digits that the number has
        with pytest.raises(ValueError, match=r"altered after it was written: its `sha256`|`version` is 4"):
            Record.from_json(flipped)


def test_the_key_and_the_layout_of_the_text(record, text):
    data = record.to_dict()
    data["made"] = copy.deepcopy(data["made"])
    data["made"]["key"]["words"] = [7, 7]  # with_model would use it
    with pytest.raises(ValueError, match="`sha256` does not fit its content"):
        Record.from_dict(data)
    reordered = json.dumps(json.loads(text), sort_keys=True, indent=3)
    assert Record.from_json(reordered).to_dict() == record.to_dict()


def test_a_later_version(record):
    for later in (4, 10):
        later_data = signed(record.to_dict() | {"version": later, "leaves": {"new": "things"}})
        with pytest.raises(ValueError, match=f"`version` is {later}, and this qrjax reads up to 3; install a later"):
            Record.from_dict(later_data)


@pytest.mark.parametrize(
    "changed", [{"version": None}, {"version": "1"}, {"version": 0}, {"leaves": None}, {"leaves": "all"}]
)
def test_missing_parts(record, changed):
    data = record.to_dict() | changed
    with pytest.raises(ValueError, match="incomplete: `version` and `leaves` are missing or of the wrong type"):
        Record.from_dict({name: value for name, value in data.items() if value is not None})


@pytest.mark.parametrize("field", ["path", "steps", "shape", "dtype", "trained", "origin"])
def test_a_leaf_without_a_field(record, field):
    data = record.to_dict()
    del data["leaves"][0][field]
    with pytest.raises(ValueError, match=f"`leaves` are not what version 3 has: KeyError\\('{field}'\\)"):
        Record.from_dict(signed(data))


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float33"},
        {"dtype": "key<none>"},
        {"shape": 5},
        {"shape": ["a"]},
        {"origin": None},
        {"origin": {"kind": "magic"}},
        {"origin": {"kind": []}},
        {"origin": {"kind": "drawn"}},
        {"origin": {"kind": "stored", "bytes": "AAAA"}},
        {"origin": {"kind": "stored", "bytes": "?"}},
        {"origin": {"kind": "keys", "words": [2**40]}},
    ],
    ids=str,
)
def test_a_leaf_that_makes_no_sense(record, change):
    data = record.to_dict()
    data["leaves"][1] |= change
    with pytest.raises(ValueError, match="the record's `leaves` are not what version 3 has"):
        Record.from_dict(signed(data))


def test_a_record_without_its_making(record):
    data = record.to_dict()
    del data["made"]
    with pytest.raises(ValueError, match=r"not what version 3 has: KeyError\('made'\)"):
        Record.from_dict(signed(data))


# Files.


def test_saved_and_loaded_whatever_the_name(record, tmp_path):
    record.save(tmp_path / "a.json")
    os.rename(tmp_path / "a.json", tmp_path / "no suffix, other name")
    found = Record.load(tmp_path / "no suffix, other name")
    assert found.to_json() == record.to_json()
    assert found.made == record.made
    assert Record.load(str(tmp_path / "no suffix, other name")).paths == record.paths


def test_save_replaces_a_file_or_leaves_it(record, tmp_path, monkeypatch):
    file = tmp_path / "record.json"
    file.write_text("old")
    monkeypatch.setattr(os, "replace", _full)
    with pytest.raises(OSError, match="no space"):
        record.save(file)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["record.json"]
    monkeypatch.undo()
    record.save(file)
    assert Record.load(file).paths == record.paths
    assert os.listdir(tmp_path) == ["record.json"]


def _full(*_):
    raise OSError("no space left")


def test_save_follows_a_link_and_respects_the_umask(record, tmp_path):
    (tmp_path / "there").mkdir()
    os.symlink(tmp_path / "there" / "real.json", tmp_path / "link.json")
    record.save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    file = tmp_path / "there" / "real.json"
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_folders_that_cannot_be_written(record, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        record.save(tmp_path / "missing" / "record.json")
    with pytest.raises(OSError, match="directory"):
        record.save(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file"):
        record.save(tmp_path / "file" / "record.json")
    assert os.listdir(tmp_path) == ["file"]
    assert not [name for name in os.listdir(tmp_path.parent) if name.startswith(".qrjax")]
    with pytest.raises(FileNotFoundError, match="absent"):
        Record.load(tmp_path / "absent")


def test_what_cannot_be_written_is_not_begun(tmp_path):
    broken = qrjax.Record((), {"by": "init", "key": object()})
    with pytest.raises(TypeError, match="JSON serializable"):
        broken.save(tmp_path / "record.json")
    assert os.listdir(tmp_path) == []


# Questions.


def test_a_wrong_path_lists_the_right_ones(record):
    for ask in (record.initial, lambda path: record.weight(path, 0), record.entry):
        with pytest.raises(KeyError, match=r"no variable has the path 'layers_0/bais'; paths: layers_0/bias, layers"):
            ask("layers_0/bais")
    with pytest.raises(KeyError, match="paths: none"):
        qrjax.Record((), {}).initial("w")


@pytest.mark.parametrize("path", ["layers_0/kernel", "layers_2/kernel", "layers_0/bias", "small", "factored"])
@pytest.mark.parametrize(
    ("index", "error", "match"),
    [
        ((0,) * 9, IndexError, "at most [12] parts for shape"),
        ((99,), IndexError, "99 is outside axis 0 of size"),
        ((-99,), IndexError, "-99 is outside axis 0 of size"),
        ([0, 77], IndexError, "77 is outside axis 0"),
        ((..., ...), IndexError, "at most one Ellipsis"),
        (1.5, TypeError, r"must hold integers, slices, an Ellipsis or integer arrays, got 1\.5"),
        ("a", TypeError, "must hold integers"),
        ((None,), TypeError, "must hold integers"),
    ],
)
def test_an_index_that_does_not_fit(path, index, error, match):
    with pytest.raises(error, match=match):
        _kinds_record().weight(path, index)


_made = []


def _kinds_record():
    if not _made:

        def build(key):
            drawn = qrjax.he_normal_hash()(key, (8, 4))
            kernels = {"layers_0": {"kernel": drawn, "bias": jnp.zeros(8)}, "layers_2": {"kernel": JAXS(key, (4, 3))}}
            return kernels | {"small": jnp.arange(4.0), "factored": qrjax.orthogonal_qr()(key, (3, 3))}

        _made.append(qrjax.record(build, key=KEY, by="init"))
        assert set(kinds(_made[0]).values()) == {"drawn", "constant", "model", "stored", "orthogonal"}
    return _made[0]


def test_a_list_and_a_mask_index_as_in_numpy():
    record = _kinds_record()
    for path in ("layers_0/kernel", "small", "factored", "layers_2/kernel"):
        array, n = record.initial(path), record.entry(path).leaf.shape[0]
        assert_same(record.weight(path, [0, -1]), array[jnp.array([0, -1])])
        assert_same(record.weight(path, ([1, 0], ...)), array[jnp.array([1, 0])])
        mask = jnp.arange(n) % 2 == 0
        assert_same(record.weight(path, mask), array[mask])
        assert record.weight(path, []).shape == (0, *array.shape[1:])
        assert_same(record.weight(path, slice(5, 2)), array[5:2])
        assert_same(record.weight(path, ()), array)


# Making one.


def test_by_is_one_of_two():
    with pytest.raises(ValueError, match="`by` must be one of 'autoinit', 'init', got 'training'"):
        qrjax.record(network(), X, by="training")


@pytest.mark.parametrize("by", ["init", "autoinit"])
def test_a_key_is_written_down(by):
    with pytest.raises(TypeError, match=r"`key` \(or `seed`\) of a record must not be traced: it is written down"):
        jax.jit(lambda key: qrjax.record(network(), X, by=by, key=key).weight("layers_0/bias", 0))(KEY)
    with pytest.raises(TypeError, match="must not be traced"):
        jax.vmap(lambda seed: qrjax.record(network(), X, by=by, seed=seed).weight("layers_0/bias", 0))(jnp.arange(2))
    for wrong, said in ((5, "got 5 of type int"), ("key", "got 'key'"), (X, "float32"), (X[0, 0], "float32")):
        with pytest.raises(TypeError, match=rf"`key` must be a JAX key, got .*{said[4:]}.*jax\.random\.key\(0\)"):
            qrjax.record(network(), X, by=by, key=wrong)
    with pytest.raises(TypeError, match=r"array of keys of shape \(2,\); map over the keys"):
        qrjax.record(network(), X, by=by, key=jax.random.split(KEY))


def test_calibrate_belongs_to_autoinit():
    with pytest.raises(ValueError, match=r"`calibrate` belongs to by='autoinit'; qrjax\.calibrate changes weights aft"):
        qrjax.record(network(), X, by="init", key=jax.random.key(0), calibrate=True)


@pytest.mark.parametrize("option", ["target", "distribution", "source", "layout", "select", "input_mean"])
def test_autoinits_options_belong_to_it(option):
    with pytest.raises(ValueError, match=f"`{option}` belongs to by='autoinit'; a module's own initialization does"):
        qrjax.record(network(), X, by="init", key=jax.random.key(0), **{option: 1})


@pytest.mark.parametrize("by", ["init", "autoinit"])
def test_what_is_unknown_is_the_modules(by):
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        qrjax.record(network(), X, by=by, seed=0, depth=3)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"source": "random"}, ValueError, "`source` must be one of"),
        ({"distribution": "cauchy"}, ValueError, "`distribution` must be one of"),
        ({"layout": "rows"}, ValueError, "`layout` must be one of"),
        ({"target": -1}, ValueError, "`target` .* must be positive"),
        ({"select": "*/weights"}, ValueError, r"`select` '\*/weights' matches no parameter; paths: layers_0/bias"),
    ],
)
def test_autoinits_own_errors(options, error, match):
    with pytest.raises(error, match=match):
        qrjax.record(network(), X, **options)


def test_a_module_that_holds_its_variables():
    module = nnx.Linear(8, 4, rngs=nnx.Rngs(0))
    expected = r"holds its variables already.*qrjax\.record\(lambda key: Network\(rngs=nnx\.Rngs\(key\)\), key=key"
    with pytest.raises(TypeError, match=expected):
        qrjax.record(module, X, by="init", key=KEY)
    record = qrjax.record(lambda key: nnx.Linear(8, 4, rngs=nnx.Rngs(key)), by="init", key=KEY)
    with pytest.raises(TypeError, match=expected):
        Record.from_json(record.to_json()).with_model(module, X)


@pytest.mark.parametrize("by", ["init", "autoinit"])
def test_no_module_and_no_function(by):
    with pytest.raises(TypeError, match="`module` must be a"):
        qrjax.record(5, X, by=by, seed=0)
    if by == "init":
        with pytest.raises(TypeError, match="or a function of a key where no sample input is given, got 5"):
            qrjax.record(5, by="init", key=jax.random.key(0))


# Another model.


def test_the_first_difference_to_another_model():
    record = Record.from_json(qrjax.record(network(kernel_init=JAXS), X, by="init", key=KEY).to_json())
    params = jax.jit(network().init)(KEY, X)["params"]
    record.check(params)
    record.check({"params": params, "batch_stats": {"mean": jnp.zeros(3)}})
    cases = [
        (network(5), r"'layers_0/bias' has the shape \(5,\), and in the record \(4,\); is this another model's record"),
        (network(use_bias=False), r"the variables lack 'layers_2/bias' of shape \(3,\).* their paths: layers_0/b"),
        (
            network(dtype=jnp.float32, param_dtype=jnp.float16),
            "'layers_2/bias' has the dtype float16, in the record float32; convert it",
        ),
        (nn.Sequential([*network().layers, nn.Dense(2)]), r"have 'layers_3/bias' of shape \(2,\), which the"),
    ]
    for module, match in cases:
        other = jax.jit(module.init)(KEY, X)
        with pytest.raises(ValueError, match=match):
            record.check(other)
        with pytest.raises(ValueError, match=match):
            qrjax.changes(record, other)
        with pytest.raises(ValueError, match=match):
            record.with_model(module, X)


def test_64_bits_without_x64():
    def build(key):
        return {"wide": qrjax.he_normal_hash()(key, (3, 2), jnp.float64), "narrow": jnp.ones(2, jnp.float32)}

    with jax.enable_x64(True):
        text = qrjax.record(build, by="init", key=KEY).to_json()
        assert_same(Record.from_json(text).initial("wide"), build(KEY)["wide"])
        assert Record.from_json(text).weight("wide", (2, 1)) == build(KEY)["wide"][2, 1]
    record = Record.from_json(text)
    assert record.paths == ("narrow", "wide")
    assert record.weight("narrow", 0) == 1
    for ask in (record.initial, lambda path: record.weight(path, 0), lambda _: record.initial()):
        with pytest.raises(ValueError, match=r"'wide' has the dtype float64.*jax\.config\.update\(.jax_enable_x64"):
            ask("wide")


def test_shown_in_a_line(record):
    assert repr(record).startswith("Record of 4 variables, 51 weights, by init\nkey 0 1 ")
    assert len(record) == 4
