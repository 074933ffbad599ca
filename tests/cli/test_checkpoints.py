"""Checkpoints of every format: what is read is what was saved, by the record's paths, or an error says why not."""

import re
import shutil
import sys
from pathlib import Path

import click
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from checkpointed import (
    assert_params,
    files_of_at_most,
    flat,
    loaded,
    params_of,
    recorded,
    save_npz,
    save_orbax,
    save_safetensors,
    save_steps,
    state,
    trained,
)
from flax import nnx

import qrjax
from qrjax._adapters._variables import leaves_of
from qrjax._cli._checkpoints import checkpoint_at, write
from qrjax._cli._failure import Failure
from qrjax._cli._orbax import record_in

ARRAYS = {
    "a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/half": np.array([1.5, -0.0], np.float16),
    "b/brain": np.array([[0.1], [-3.0]], ml_dtypes.bfloat16),
    "b/double": np.array([0.1, 1e300]),
    "b/count": np.array(2**40),
    "b/flags": np.array([True, False]),
    "c/complex": np.array([1 + 2j], np.complex64),
    "c/empty": np.zeros((0, 3), np.float32),
    "file": np.ones(1, np.float32),
}
INEXACT = {name: array.dtype.kind not in "bi" for name, array in ARRAYS.items()}
RECORD, VARIABLES = recorded()
PARAMS = trained(VARIABLES["params"])


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


class TestFormats:
    def test_npz(self, tmp_path):
        checkpoint = checkpoint_at(save_npz(tmp_path / "a.npz", {n: a for n, a in ARRAYS.items() if n != "file"}))
        found = checkpoint.read(["a/kernel", "b/double", "b/count", "c/complex"])
        assert_same(found, {name: np.asarray(ARRAYS[name]) for name in found})
        assert (checkpoint.kind, dict(checkpoint.inexact)) == ("npz", {n: v for n, v in INEXACT.items() if n != "file"})

    def test_safetensors(self, tmp_path):
        checkpoint = checkpoint_at(save_safetensors(tmp_path / "A.SafeTensors", ARRAYS))
        assert_same(checkpoint.read(list(ARRAYS)), {name: np.asarray(a) for name, a in ARRAYS.items()})
        assert (checkpoint.kind, dict(checkpoint.inexact)) == ("safetensors", dict(sorted(INEXACT.items())))
        assert checkpoint.metadata == {"format": "flax"}

    def test_orbax(self, tmp_path):
        tree = {
            "a": {"kernel": ARRAYS["a/kernel"]},
            "b": [ARRAYS["b/brain"], (ARRAYS["b/double"],)],
            "n": 3,
            "none": None,
        }
        checkpoint = checkpoint_at(save_orbax(tmp_path / "o", tree))
        expected = {
            "a/kernel": ARRAYS["a/kernel"],
            "b/0": ARRAYS["b/brain"],
            "b/1/0": ARRAYS["b/double"],
            "n": np.array(3),
        }
        assert_same(checkpoint.read(list(expected)), expected)
        assert_same(checkpoint.read(["b/1/0"]), {"b/1/0": ARRAYS["b/double"]})
        assert checkpoint.read([]) == {}
        assert dict(checkpoint.inexact) == {"a/kernel": True, "b/0": True, "b/1/0": True, "n": False}

    def test_orbax_leaves_text_out(self, tmp_path):
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "o", {"name": "network", "w": jnp.ones(2)})
        checkpoint = checkpoint_at(tmp_path / "o")
        assert checkpoint.others == ["name"]
        assert_same(checkpoint.read(["w"]), {"w": np.ones(2, np.float32)})

    def test_npz_leaves_text_out(self, tmp_path):
        checkpoint = checkpoint_at(save_npz(tmp_path / "a.npz", {"names": np.array(["x"]), "w": np.ones(2)}))
        assert (checkpoint.others, list(checkpoint.inexact)) == (["names"], ["w"])

    def test_sharded_arrays_are_read_on_one_device(self, tmp_path):
        array = jax.device_put(jnp.arange(8.0), jax.sharding.SingleDeviceSharding(jax.devices()[0]))
        sharding = tmp_path / "o" / "_sharding"
        save_orbax(tmp_path / "o", {"w": array})
        # As if written on a machine that this one is not.
        text = sharding.read_text()
        elsewhere = re.sub(r"(device_str\W+)[\w:]+", r"\1tpu:77", text)
        assert elsewhere != text
        sharding.write_text(elsewhere)
        assert_same(checkpoint_at(tmp_path / "o").read(["w"]), {"w": np.arange(8, dtype=np.float32)})


class TestSteps:
    @pytest.mark.parametrize("options", [{}, {"step_prefix": "checkpoint", "step_format_fixed_length": 8}])
    def test_the_last_or_the_one_asked_for(self, options, tmp_path):
        trees = {step: {"w": jnp.full(2, float(step))} for step in (9, 10)}
        save_steps(tmp_path / "all", trees, **options)
        (tmp_path / "all" / "11.orbax-checkpoint-tmp-5").mkdir()
        for step, expected in ((None, 10), (9, 9), (10, 10)):
            checkpoint = checkpoint_at(tmp_path / "all", step)
            assert checkpoint.kind == f"Orbax, step {expected}"
            assert checkpoint.read(["w"])["w"][0] == expected

    def test_the_folder_of_one_step(self, tmp_path):
        save_steps(tmp_path / "all", {9: {"w": jnp.ones(2)}})
        assert checkpoint_at(tmp_path / "all" / "9").kind == "Orbax"
        assert list(checkpoint_at(tmp_path / "all" / "9" / "default").inexact) == ["w"]

    def test_items_beside_each_other_are_parts(self, tmp_path):
        items = {"state": ocp.args.StandardSave(state(PARAMS)), "more": ocp.args.StandardSave({"w": jnp.ones(2)})}
        with ocp.CheckpointManager(tmp_path / "all") as manager:
            manager.save(3, args=ocp.args.Composite(**items, notes=ocp.args.JsonSave({"x": 1})))
        checkpoint = checkpoint_at(tmp_path / "all")
        assert_same(checkpoint.read(["more/w"]), {"more/w": np.ones(2, np.float32)})
        found, place = params_of(RECORD, tmp_path / "all")
        assert place == "state/params"
        assert_params(found["params"], PARAMS)

    def test_a_step_that_is_not_there(self, tmp_path):
        save_steps(tmp_path / "all", {9: {"w": jnp.ones(2)}, 10: {"w": jnp.ones(2)}})
        with pytest.raises(click.BadParameter, match="must be one of 9, 10, got 11"):
            checkpoint_at(tmp_path / "all", 11)
        with pytest.raises(click.BadParameter, match="belongs to folders of several steps"):
            checkpoint_at(tmp_path / "all" / "9", 9)
        with pytest.raises(click.BadParameter, match="belongs to folders of several checkpoints"):
            checkpoint_at(save_npz(tmp_path / "a.npz", {}), 9)


class TestRecordInMetadata:
    def test_is_read(self, tmp_path):
        save_steps(tmp_path / "all", {9: PARAMS}, RECORD)
        save_orbax(tmp_path / "one", PARAMS, RECORD)
        for place, step in ((tmp_path / "all", None), (tmp_path / "all", 9), (tmp_path / "one", None)):
            assert qrjax.Record.from_dict(record_in(place, step)).to_json() == RECORD.to_json()

    def test_that_is_not_there(self, tmp_path):
        with pytest.raises(Failure, match=r"has no record in its metadata; name the file that Record\.save wrote"):
            record_in(save_orbax(tmp_path / "o", PARAMS), None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    save_npz(folder / "a.npz", flat(PARAMS))
    save_safetensors(folder / "a.safetensors", flat(PARAMS))
    save_orbax(folder / "o", PARAMS)
    return folder


class TestDamage:
    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("a.npz", lambda _: b"", "it is no .npz file, or cut short"),
            ("a.npz", lambda data: data[: len(data) // 2], "it is no .npz file, or cut short"),
            ("a.npz", lambda data: data[:200] + bytes([data[200] ^ 255]) + data[201:], "damaged: Bad CRC-32"),
            ("a.npz", lambda _: b"x" * 500, "it is no .npz file"),
            ("a.safetensors", lambda _: b"", "which may be damaged: "),
            ("a.safetensors", lambda data: data[:-10], "which may be damaged: "),
            ("a.safetensors", lambda _: b"x" * 500, "which may be damaged: "),
        ],
    )
    def test_of_a_file(self, name, change, message, whole, tmp_path):
        (tmp_path / name).write_bytes(change((whole / name).read_bytes()))
        with pytest.raises(Failure, match=f"cannot read '{tmp_path / name}'.*{message}"):
            checkpoint_at(tmp_path / name)

    def test_of_orbax_folders(self, whole, tmp_path):
        for name in ("metadata", "data"):
            shutil.copytree(whole / "o", tmp_path / name)
        (tmp_path / "metadata" / "_METADATA").write_text("{")
        with pytest.raises(Failure, match=r"cannot read '.*metadata', which may be damaged: "):
            checkpoint_at(tmp_path / "metadata")
        for file in (tmp_path / "data").rglob("d/*"):
            file.write_bytes(file.read_bytes()[:20])
        with pytest.raises(Failure, match=r"cannot read '.*data', which may be damaged: "):
            checkpoint_at(tmp_path / "data").read(["head/bias"])

    def test_nothing_is_unpickled(self, tmp_path):
        class Dangerous:
            def __reduce__(self):
                return Path.touch, (tmp_path / "touched",)

        np.savez(tmp_path / "a.npz", a=np.array([Dangerous()], object))
        with pytest.raises(Failure, match="Object arrays cannot be loaded when allow_pickle=False"):
            checkpoint_at(tmp_path / "a.npz")
        assert not (tmp_path / "touched").exists()

    def test_other_formats(self, tmp_path):
        (tmp_path / "a.pt").touch()
        with pytest.raises(click.BadParameter, match=r"must be the folder of an Orbax .*, got '.*a.pt'"):
            checkpoint_at(tmp_path / "a.pt")
        (tmp_path / "9").mkdir()
        with pytest.raises(Failure, match=r"'.*/9' holds no Orbax checkpoint, or one that was never completed"):
            checkpoint_at(tmp_path)

    def test_without_safetensors_says_what_to_install(self, whole, monkeypatch):
        monkeypatch.setitem(sys.modules, "safetensors", None)
        with pytest.raises(Failure, match=r"need the package safetensors, .*pip install 'qrjax\[checkpoints\]'"):
            checkpoint_at(whole / "a.safetensors")


class TestWrite:
    @pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".NPZ"])
    def test_is_read_again(self, suffix, tmp_path):
        arrays = {name: a for name, a in ARRAYS.items() if suffix == ".safetensors" or a.dtype != ml_dtypes.bfloat16}
        path = tmp_path / f"a{suffix}"
        write(path, arrays, {"format": "pt"})
        assert_same(checkpoint_at(path).read(list(arrays)), {name: np.asarray(a) for name, a in arrays.items()})
        (tmp_path / "plain").touch()
        assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_safetensors_keeps_what_the_file_says_of_itself(self, tmp_path):
        write(tmp_path / "a.safetensors", {}, {"format": "pt"})
        assert checkpoint_at(tmp_path / "a.safetensors").metadata == {"format": "pt"}

    def test_types_that_an_npz_file_does_not_say_stay_bytes(self, tmp_path):
        brain = checkpoint_at(save_npz(tmp_path / "a.npz", {"w": ARRAYS["b/brain"]})).read(["w"])
        write(tmp_path / "b.npz", brain, {})
        assert loaded(tmp_path / "b.npz")["w"].tobytes() == ARRAYS["b/brain"].tobytes()
        with pytest.raises(Failure, match=r"does not say the type of 'w'; give --save a name that ends in \.npz"):
            write(tmp_path / "b.safetensors", brain, {})

    @pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
    def test_a_full_disk_keeps_the_old_file(self, suffix, tmp_path):
        path = tmp_path / f"a{suffix}"
        path.write_text("old")
        with (
            files_of_at_most(500),
            pytest.raises(Failure, match=r"cannot write .*File too large.*; nothing was changed"),
        ):
            write(path, {"w": np.ones(1000)}, {})
        assert path.read_text() == "old"
        assert [file.name for file in tmp_path.iterdir()] == [path.name]


FORMS = ("npz", "safetensors", "orbax")


class TestMatching:
    @pytest.mark.parametrize("separator", ["/", "."])
    @pytest.mark.parametrize("place", ["", "params", "model/params", "a/b/params"])
    @pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
    def test_weights_are_found_below_any_place(self, separator, place, suffix, tmp_path):
        below = place.replace("/", separator) + separator if place else ""
        arrays = {below + name: array for name, array in flat(PARAMS, separator).items()}
        arrays |= {f"batch_stats{separator}norm{separator}{name}": np.ones(8, np.float32) for name in ("mean", "var")}
        save = save_npz if suffix == ".npz" else save_safetensors
        found, where = params_of(RECORD, save(tmp_path / f"a{suffix}", arrays))
        assert where == place
        assert_params(found["params"], PARAMS)

    @pytest.mark.parametrize("nested", [False, True])
    def test_optimizers_moments_are_not_the_weights(self, nested, tmp_path):
        tree = state({"params": PARAMS} if nested else PARAMS)
        tree = {"variables" if nested else "weights": tree.pop("params")} | tree
        found, place = params_of(RECORD, save_orbax(tmp_path / "o", tree))
        assert place == ("variables/params" if nested else "weights")
        assert_params(found["params"], PARAMS)

    def test_moments_beside_weights_are_neither_missing_nor_more(self, tmp_path):
        moments = {f"opt_state/mu/{name}": array for name, array in flat(PARAMS).items()}
        found, place = params_of(RECORD, save_npz(tmp_path / "a.npz", flat(PARAMS) | moments))
        assert place == ""
        assert_params(found["params"], PARAMS)
        fewer = {f"params/{name}": array for name, array in flat(PARAMS).items() if name != "head/bias"}
        with pytest.raises(Failure, match="the checkpoint's 'params' lacks 'head/bias'"):
            params_of(RECORD, save_npz(tmp_path / "b.npz", fewer | moments))
        assert params_of(RECORD, save_npz(tmp_path / "c.npz", moments))[1] == "opt_state/mu"

    def test_subtree_picks(self, tmp_path):
        sets = {"model": PARAMS, "average": jax.tree.map(jnp.zeros_like, PARAMS)}
        arrays = {f"{name}/params/{path}": a for name, tree in sets.items() for path, a in flat(tree).items()}
        file = save_npz(tmp_path / "a.npz", arrays)
        with pytest.raises(
            Failure, match="several sets of these weights, at 'model/params', 'average/params'; pick one"
        ):
            params_of(RECORD, file)
        for name, tree in sets.items():
            for subtree in (name, f"{name}/params", f"{name}.params", f"/{name}/"):
                found, place = params_of(RECORD, file, subtree)
                assert place == f"{name}/params"
                assert_params(found["params"], tree)
        with pytest.raises(
            click.BadParameter, match="must be a part of the checkpoint, got 'mean'; there are 'model', 'av"
        ):
            params_of(RECORD, file, "mean")

    def test_record_of_params_in_a_tree_of_params(self, tmp_path):
        pair = (lambda key, _: {"params": {"w": jax.random.normal(key, (6, 2))}}, lambda p, x: x @ p["params"]["w"])
        record, params = recorded(pair)
        assert record.paths == ("params/w",)
        for name, separator in (("params/w", ""), ("w", ""), ("state/params/w", "state"), ("model.w", "model")):
            found, place = params_of(record, save_npz(tmp_path / "a.npz", {name: np.asarray(params["params"]["w"])}))
            assert place == separator
            assert_params(found, params)

    @pytest.mark.few("True")
    @pytest.mark.parametrize("pure", [True, False])
    def test_nnx(self, pure, tmp_path):
        class Stack(nnx.Module):
            def __init__(self, rngs):
                self.layers = nnx.List(
                    [nnx.Linear(6, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)]
                )

            def __call__(self, x):
                for layer in self.layers:
                    x = layer(x)
                return x

        record, module = recorded(Stack(nnx.Rngs(0)))
        weights = nnx.state(module, nnx.Param)
        tree = nnx.to_pure_dict(weights) if pure else weights
        found, place = params_of(record, save_orbax(tmp_path / "o", tree))
        assert place == ""
        assert [leaf.path for leaf in leaves_of(found)] == [leaf.path for leaf in leaves_of(weights)]
        assert qrjax.changes(record, found).to_json() == qrjax.changes(record, module).to_json()
        assert qrjax.changes(record, found).total.changed == 0

    def test_a_weight_of_the_name_value(self, tmp_path):
        record, params = recorded(
            (lambda key, _: {"m": {"value": jax.random.normal(key, (6, 2))}}, lambda p, x: x @ p["m"]["value"])
        )
        found, _ = params_of(record, save_npz(tmp_path / "a.npz", flat(params)))
        assert_params(found, params)

    @pytest.mark.few("npz-bfloat16", "safetensors-float16", "orbax-float32")
    @pytest.mark.parametrize(
        ("form", "dtype"),
        [
            pytest.param(form, dtype, marks=[pytest.mark.slow] * (number != other))
            for number, form in enumerate(FORMS)
            for other, dtype in enumerate([jnp.bfloat16, jnp.float16, jnp.float32])
        ],
    )
    def test_dtypes(self, dtype, form, tmp_path):
        record, variables = recorded(nn.Dense(4, param_dtype=dtype), jax.ShapeDtypeStruct((2, 6), dtype))
        params = trained(variables["params"])
        save = {"npz": save_npz, "safetensors": save_safetensors, "orbax": save_orbax}[form]
        found, _ = params_of(record, save(tmp_path / f"a.{form}", flat(params) if form != "orbax" else params))
        assert_params(found["params"], params)

    @pytest.mark.few("safetensors")
    @pytest.mark.parametrize("form", [pytest.param("npz", marks=pytest.mark.slow), "safetensors", "orbax"])
    def test_64_bits(self, form, tmp_path):
        with jax.enable_x64(True):
            record, variables = recorded(nn.Dense(4, param_dtype=jnp.float64), jnp.ones((2, 6)))
            params = trained(variables["params"])
            save = {"npz": save_npz, "safetensors": save_safetensors, "orbax": save_orbax}[form]
            file = save(tmp_path / f"a.{form}", flat(params) if form != "orbax" else params)
            expected = qrjax.changes(record, params).to_json()
        found, _ = params_of(record, file)
        assert_params(found["params"], params)
        assert qrjax.changes(record, found).to_json() == expected


class TestMismatch:
    def test_missing_weights_are_named(self, tmp_path):
        arrays = flat({"params": PARAMS})
        del arrays["params/hidden/kernel"]
        message = (
            r"the checkpoint's 'params' lacks 'hidden/kernel' \(1 of the record's 6 weights are missing\); .*It has 'h"
        )
        with pytest.raises(Failure, match=message):
            params_of(RECORD, save_npz(tmp_path / "a.npz", arrays))

    def test_other_weights_are_named(self, tmp_path):
        arrays = flat(PARAMS) | {"tail/kernel": np.ones(2), "step": np.array(3), "batch_stats/norm/mean": np.ones(8)}
        with pytest.raises(
            Failure, match=r"the checkpoint has 'tail/kernel', which the record lacks \(1 more than the rec"
        ):
            params_of(RECORD, save_npz(tmp_path / "a.npz", arrays))

    def test_another_model(self, tmp_path):
        with pytest.raises(
            Failure, match=r"none of the record's 6 weights .*has 'head/bias', .*the checkpoint has 'other'; is"
        ):
            params_of(RECORD, save_npz(tmp_path / "a.npz", {"other": np.ones(2)}))

    def test_one_path_under_two_names(self, tmp_path):
        arrays = flat(PARAMS) | {"head.bias": np.ones(3)}
        with pytest.raises(Failure, match=r"has both 'head/bias' and 'head.bias', which are the same path"):
            params_of(RECORD, save_npz(tmp_path / "a.npz", arrays))

    def test_shapes_and_dtypes_are_those_of_the_record(self, tmp_path):
        arrays = flat(PARAMS) | {"head/bias": np.ones(4, np.float32)}
        found, _ = params_of(RECORD, save_npz(tmp_path / "a.npz", arrays))
        with pytest.raises(ValueError, match=r"'head/bias' has the shape \(4,\), and in the record \(3,\)"):
            qrjax.changes(RECORD, found)


def test_no_more_than_the_weights_is_read(tmp_path, monkeypatch):
    read = []

    def restore(self, folder, args):
        read.extend(leaf for leaf in jax.tree.leaves(args.item) if leaf is not ocp.PLACEHOLDER)
        return original(self, folder, args=args)

    original = ocp.PyTreeCheckpointHandler.restore
    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, "restore", restore)
    params_of(RECORD, save_orbax(tmp_path / "o", state(PARAMS)))
    assert sorted(leaf.name for leaf in read) == [f"params.{name.replace('/', '.')}" for name in sorted(flat(PARAMS))]
