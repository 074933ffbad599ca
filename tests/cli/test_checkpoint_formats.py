"""Checkpoints in several files, in msgpack, of Keras and of several processes: what is read is what was saved."""

import io
import json
import os
import socket
import subprocess
import sys
import zipfile

import click
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpointed import assert_params, flat, params_of, recorded, save_safetensors, save_steps, state, trained
from flax import serialization

import qrjax
from qrjax._cli import main
from qrjax._cli._checkpoints import checkpoint_at
from qrjax._cli._failure import Failure
from qrjax._cli._matching import matched
from qrjax._cli._steps import step_of

RECORD, VARIABLES = recorded()
PARAMS = trained(VARIABLES["params"])


def assert_read(path, record=RECORD, params=PARAMS, step=None, kind=""):
    """The record's weights are found, and are the params, bit for bit."""
    assert not kind or checkpoint_at(path, step).kind == kind
    assert_params(params_of(record, path, step=step)[0], params)


def save_sharded(folder, arrays, count=3, name="model"):
    """As large models are published: files of some arrays each, and an index."""
    folder.mkdir(exist_ok=True)
    places = {n: f"{name}-{i % count + 1:05}-of-{count:05}.safetensors" for i, n in enumerate(arrays)}
    for file in set(places.values()):
        save_safetensors(folder / file, {n: arrays[n] for n, place in places.items() if place == file})
    index = folder / f"{name}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


class TestSafetensors:
    def test_several_files_are_one_checkpoint(self, tmp_path):
        arrays = flat({"params": PARAMS, "opt_state": {"mu": PARAMS}}, ".")
        index = save_sharded(tmp_path / "model", arrays)
        for place in (index, index.parent):
            assert_read(place, kind="safetensors, 3 files")
        file = checkpoint_at(index)
        assert file.read(list(arrays)).keys() == arrays.keys() == file.inexact.keys()

    def test_a_folder_with_one_file_needs_no_index(self, tmp_path):
        save_safetensors(tmp_path / "model.safetensors", flat(PARAMS))
        assert_read(tmp_path, kind="safetensors")
        save_safetensors(tmp_path / "other.safetensors", flat(PARAMS))
        with pytest.raises(Failure, match=r"has 2 files of weights .*: name one of 'model.safetensors', 'other"):
            checkpoint_at(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda places: places | {"x": "gone.safetensors"}, r"names 'gone\.safetensors', which is not there"),
            (lambda places: places | {"x": places["head/bias"]}, r"says that '.*' has 'x', and it has not"),
            (lambda places: places | {"x": "../secret"}, r"must name files that lie beside it, got '\.\./secret'"),
            (lambda _: 5, "which may be damaged"),
        ],
    )
    def test_an_index_that_does_not_fit(self, change, message, tmp_path):
        index = save_sharded(tmp_path / "model", flat(PARAMS))
        data = json.loads(index.read_text())
        index.write_text(json.dumps({"weight_map": change(data["weight_map"])}))
        with pytest.raises(Failure, match=message):
            checkpoint_at(index)


class TestMsgpack:
    @pytest.mark.parametrize("name", ["state.msgpack", "state"])
    def test_a_state_as_flax_serializes_it(self, name, tmp_path):
        (tmp_path / name).write_bytes(serialization.to_bytes(state(PARAMS)))
        assert_read(tmp_path / name, kind="msgpack")

    def test_older_checkpoints_of_flax_by_step(self, tmp_path):
        for step in (9, 10):
            tree = {"params": jax.tree.map(lambda w, step=step: w * step, PARAMS), "step": step}
            (tmp_path / f"checkpoint_{step}").write_bytes(
                serialization.msgpack_serialize(jax.tree.map(np.asarray, tree))
            )
        (tmp_path / "log_99").write_text("not a checkpoint")
        assert_read(tmp_path, params=jax.tree.map(lambda w: w * 10, PARAMS), kind="msgpack, step 10")
        assert_read(tmp_path, params=jax.tree.map(lambda w: w * 9, PARAMS), step=9, kind="msgpack, step 9")

    def test_low_precision_and_what_is_no_array(self, tmp_path):
        tree = {"w": jnp.ones((2, 3), jnp.bfloat16), "n": 3, "none": None, "name": "x"}
        (tmp_path / "a.msgpack").write_bytes(serialization.to_bytes(tree))
        file = checkpoint_at(tmp_path / "a.msgpack")
        assert (dict(file.inexact), list(file.others)) == ({"w": True}, ["n", "name"])
        assert file.read(["w"])["w"].dtype == jnp.bfloat16

    @pytest.mark.parametrize("content", [b"", b"\x81\xa1", b"\x01", b"\x93\x01\x02\x03"])
    def test_what_is_no_tree(self, content, tmp_path):
        (tmp_path / "a.msgpack").write_bytes(content)
        with pytest.raises(Failure, match=r"a\.msgpack"):
            checkpoint_at(tmp_path / "a.msgpack")

    def test_a_file_without_a_suffix_that_is_something_else(self, tmp_path):
        (tmp_path / "notes").write_text("text")
        with pytest.raises(click.BadParameter, match=r"must be the folder of an Orbax checkpoint, .*got '.*notes'"):
            checkpoint_at(tmp_path / "notes")


def test_the_numbers_of_steps(tmp_path):
    names = {
        "20": 20, "checkpoint_00000020": 20, "checkpoint-500": 500, "run.tmp_3": None, "step_7.npz": 7,
        "7.weights.h5": 7, "epoch_3.weights.json": 3, "m-3.safetensors": 3, "model-00001-of-00002.safetensors": None,
        "last": None, "4.orbax-checkpoint-tmp": None,
    }  # fmt: skip
    assert {name: step_of(tmp_path / name) for name in names} == names


KERAS = {
    # A layer's folder, the name that stands beside it, and its variables in Keras's order.
    "": ("network", ()),
    "layers/dense": ("first", ("kernel", "bias")),
    "layers/batch_normalization": ("norm", ("gamma", "beta", "moving_mean", "moving_variance")),
    "layers/sequential": ("inner", ()),
    "layers/sequential/layers/dense": ("first", ("kernel", "bias")),
    "optimizer": ("adam", ("a", "b", "c")),
}
SHAPES = {"kernel": (6, 6), "bias": (6,)}


def keras_weights():
    """The paths that Keras gives the variables, and what they hold."""
    rng = np.random.default_rng(0)
    names = [f"network/first/{v}" for v in ("kernel", "bias")] + [f"network/norm/{v}" for v in ("gamma", "beta")]
    names += [f"inner/first/{v}" for v in ("kernel", "bias")]  # Keras's path, where it was built before
    return {n: rng.standard_normal(SHAPES.get(n.rpartition("/")[2], (6,)), np.float32) for n in names}


def write_keras(file, weights):
    """As Keras 3.15 writes model.save_weights(file), whose variables have numbers for names."""
    names = {"": "network", "layers/sequential": "inner"}
    for place, (own, variables) in KERAS.items():
        around = names.get(place.rpartition("/layers/")[0] if "/layers/" in place else "", "network")
        group = file.require_group(f"{place}/vars" if place else "vars")
        group.attrs["name"] = own
        for i, variable in enumerate(variables):
            value = weights.get(f"{around}/{own}/{variable}", np.full(6, 7, np.float32))
            group.create_dataset(str(i), data=value)


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def keras_record():
    shapes = {path: value.shape for path, value in keras_weights().items()}

    def init(key):
        keys = jax.random.split(key, len(shapes))
        draw = qrjax.normal_hash(0.1)
        return {path: draw(k, shape) for k, (path, shape) in zip(keys, shapes.items(), strict=True)}

    return qrjax.record(init, by="init", key=jax.random.key(0))


class TestKeras:
    def test_variables_are_found_by_layer_shape_and_order(self, h5py, keras_record, tmp_path):
        weights = keras_weights()
        with h5py.File(tmp_path / "model.weights.h5", "w") as file:
            write_keras(file, weights)
        assert_read(tmp_path / "model.weights.h5", keras_record, weights, kind="Keras")
        buffer = io.BytesIO((tmp_path / "model.weights.h5").read_bytes())
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.writestr("model.weights.h5", buffer.getvalue())
        assert_read(tmp_path / "model.keras", keras_record, weights)

    def test_pruned_it_is_written_by_the_records_paths(self, h5py, keras_record, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        with h5py.File("model.weights.h5", "w") as file:
            write_keras(file, keras_weights())
        keras_record.save("record.json")
        assert main(["track", "record.json", "model.weights.h5", "--prune-sparsity", "0.5", "--save", "p.npz"]) == 0
        capsys.readouterr()
        found = checkpoint_at(tmp_path / "p.npz")
        params = matched(keras_record, found, None).params(found)
        assert np.count_nonzero(params["network/first/kernel"]) == 18
        np.testing.assert_array_equal(params["network/norm/beta"], keras_weights()["network/norm/beta"])

    def test_several_files_with_an_index(self, h5py, keras_record, tmp_path):
        weights, files = keras_weights(), ("a_00000.weights.h5", "a_00001.weights.h5")
        with h5py.File(tmp_path / files[0], "w") as first, h5py.File(tmp_path / files[1], "w") as second:
            write_keras(first, weights)
            # Keras's later files have a layer's folder without its name.
            moved = "layers/sequential/layers/dense/vars"
            first.copy(f"{moved}/1", second.require_group(moved))
            del first[f"{moved}/1"]
        places = {"/layers/dense/vars": [files[0]], f"/{moved}": list(files)}
        index = tmp_path / "a.weights.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
        assert_read(index, keras_record, weights, kind="Keras, 2 files")
        (tmp_path / files[1]).unlink()
        with pytest.raises(Failure, match=r"names 'a_00001\.weights\.h5', which is not there beside it"):
            checkpoint_at(index)

    def test_older_files_name_their_variables(self, h5py, keras_record, tmp_path):
        weights = keras_weights()
        with h5py.File(tmp_path / "model.h5", "w") as file:
            top = file.create_group("model_weights")
            statistics = {"network/norm/moving_mean": np.zeros(6, np.float32)}
            for path, value in (weights | statistics).items():
                layer = top.require_group(path.split("/")[1])
                layer.create_dataset(f"{path}:0", data=value)
                names = [n for n in [*weights, *statistics] if n.split("/")[1] == path.split("/")[1]]
                layer.attrs["weight_names"] = np.array([f"{n}:0".encode() for n in names])
            file.create_dataset("optimizer_weights/adam/iteration", data=3)
            file.create_dataset(
                "optimizer_weights/adam/network_first_kernel_momentum", data=weights["network/first/kernel"]
            )
        assert_read(tmp_path / "model.h5", keras_record, weights)

    def test_another_models_file(self, h5py, keras_record, tmp_path):
        weights = keras_weights()
        with h5py.File(tmp_path / "more.h5", "w") as file:
            write_keras(file, weights)
            group = file.require_group("layers/dense_9/vars")
            group.attrs["name"] = "tail"
            group.create_dataset("0", data=np.ones((6, 2), np.float32))
        with pytest.raises(Failure, match=r"has 'layers/dense_9/vars/0', which the record lacks"):
            matched(keras_record, checkpoint_at(tmp_path / "more.h5"), None)

    def test_names_of_ones_own_with_one_shape_are_not_guessed(self, h5py, tmp_path):
        def init(key):
            return {f"own/{name}": qrjax.normal_hash()(key, (4,)) for name in ("left", "right")}

        with h5py.File(tmp_path / "own.weights.h5", "w") as file:
            group = file.require_group("layers/own/vars")
            group.attrs["name"] = "own"
            for i in range(2):
                group.create_dataset(str(i), data=np.ones(4, np.float32))
        record = qrjax.record(init, by="init", key=jax.random.key(0))
        with pytest.raises(Failure, match=r"does not say which of its variables in 'own' are 'left' and 'right'"):
            matched(record, checkpoint_at(tmp_path / "own.weights.h5"), None)

    def test_without_h5py(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "h5py", None)
        RECORD.save(tmp_path / "record.json")
        (tmp_path / "a.weights.h5").touch()
        assert main(["track", str(tmp_path / "record.json"), str(tmp_path / "a.weights.h5")]) == 1
        assert "pip install 'qrjax[checkpoints]'" in capsys.readouterr().err

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")  # Keras's own
    @pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5", ".weights.json"])
    def test_what_keras_itself_writes(self, suffix, tmp_path, monkeypatch):
        monkeypatch.setenv("KERAS_BACKEND", "jax")
        keras = pytest.importorskip("keras")
        layers = [keras.layers.Dense(6, name="first"), keras.layers.BatchNormalization(name="norm")]
        inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6, name="first")], name="inner")
        model = keras.Sequential([keras.Input((6,)), *layers, inner], name="network")
        model.compile("adam", "mse")
        shapes = {v.path: tuple(v.shape) for v in model.trainable_variables}

        def init(key):
            return {path: qrjax.normal_hash()(key, shape) for path, shape in shapes.items()}

        options = {"max_shard_size": 1.0} if suffix.endswith(".json") else {}
        save = model.save_weights if "weights" in suffix else model.save
        save(tmp_path / f"a{suffix}", **options)
        weights = {v.path: np.asarray(v.value) for v in model.trainable_variables}
        assert_read(tmp_path / f"a{suffix}", qrjax.record(init, by="init", key=jax.random.key(0)), weights)

    def test_a_damaged_file(self, h5py, tmp_path):
        (tmp_path / "a.h5").write_bytes(b"\x89HDF")
        assert h5py
        with pytest.raises(Failure, match=r"cannot read '.*a\.h5', which may be damaged"):
            checkpoint_at(tmp_path / "a.h5")


WORKER = """
import sys, jax
folder, port, process = sys.argv[1:]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(process))
import flax.linen as nn, numpy as np, orbax.checkpoint as ocp, qrjax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
x = jax.ShapeDtypeStruct((2, 6), "float32")
record, params = qrjax.record(nn.Dense(8), x, seed=7), qrjax.autoinit(nn.Dense(8), x, seed=7)["params"]
mesh = Mesh(np.array(jax.devices()), ("x",))
def put(w):
    w = 2 * np.asarray(w)
    place = NamedSharding(mesh, PartitionSpec(*[None] * (w.ndim - 1), "x"))
    return jax.make_array_from_callback(w.shape, place, lambda index: w[index])
tree = jax.tree.map(put, params)
with ocp.CheckpointManager(folder + "/steps") as manager:
    manager.save(3, args=ocp.args.StandardSave(tree), custom_metadata={"qrjax": record.to_dict()})
for name, options in {"zarr": {"use_ocdbt": False}, "zarr3": {"use_zarr3": True}}.items():
    ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)).save(folder + "/" + name, args=ocp.args.PyTreeSave(tree))
"""


@pytest.mark.slow
def test_orbax_of_two_processes(tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", WORKER, str(tmp_path), str(port)]
    workers = [subprocess.Popen([*command, str(i)], env=env, stderr=subprocess.PIPE, text=True) for i in range(2)]
    said = [worker.communicate(timeout=240)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert any(tmp_path.glob("steps/3/**/ocdbt.process_1"))
    module, x = nn.Dense(8), jax.ShapeDtypeStruct((2, 6), jnp.float32)
    params = jax.tree.map(lambda w: 2 * w, qrjax.autoinit(module, x, seed=7)["params"])
    for name in ("steps", "zarr", "zarr3"):
        assert_read(tmp_path / name, qrjax.record(module, x, seed=7), params)
    assert main(["track", str(tmp_path / "steps"), str(tmp_path / "steps")]) == 0


def test_orbaxs_steps_are_as_before(tmp_path):
    save_steps(tmp_path / "steps", {1: {"params": VARIABLES["params"]}, 12: {"params": PARAMS}})
    assert_read(tmp_path / "steps", kind="Orbax, step 12")
