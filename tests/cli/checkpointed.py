"""A trained model, its record, and its checkpoints in every format, as people save them."""

import contextlib
import resource
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import safetensors.numpy
from flax.traverse_util import flatten_dict

import qrjax
from qrjax._adapters._variables import leaves_of, values_of
from qrjax._cli._checkpoints import checkpoint_at
from qrjax._cli._matching import matched

X = jax.ShapeDtypeStruct((2, 6), jnp.float32)


class Network(nn.Module):
    """Two layers and running statistics, which no one trains."""

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True, name="norm")(nn.Dense(8, name="hidden")(x))
        return nn.Dense(3, name="head")(nn.relu(x))


def recorded(module=None, x=X, seed=7):
    """The record of a model, and its initial variables."""
    module = module or Network()
    return qrjax.record(module, x, seed=seed), qrjax.autoinit(module, x, seed=seed)


def trained(params):
    """As after training that left small weights alone."""
    return jax.tree.map(lambda w: jnp.where(jnp.abs(w) > 0.3, w * w.dtype.type(1.25), w), params)


def flat(tree, separator="/"):
    return {name: np.asarray(array) for name, array in flatten_dict(tree, sep=separator).items()}


def state(params):
    """What a training loop saves: the weights, the optimizer's moments, and a counter."""
    moments = optax.adam(1e-3).init(params)
    return {"params": params, "opt_state": moments, "step": np.int32(20)}


def save_orbax(folder, tree, record=None):
    metadata = {} if record is None else {"qrjax": record.to_dict()}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), tree, custom_metadata=metadata)
    return folder


def save_steps(folder, trees, record=None, **options):
    metadata = {} if record is None else {"qrjax": record.to_dict()}
    with ocp.CheckpointManager(folder.absolute(), options=ocp.CheckpointManagerOptions(**options)) as manager:
        for step, tree in trees.items():
            manager.save(step, args=ocp.args.StandardSave(tree), custom_metadata=metadata)
    return folder


def save_npz(file, arrays):
    np.savez(file, **arrays)
    return file


def save_safetensors(file, arrays):
    safetensors.numpy.save_file(arrays, file, {"format": "flax"})
    return file


def loaded(file: Path):
    if file.suffix == ".safetensors":
        return safetensors.numpy.load_file(file)
    with np.load(file) as archive:
        return dict(archive)


@contextlib.contextmanager
def files_of_at_most(size):
    """As if the disk were full after so many bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def params_of(record, path, subtree=None, step=None):
    """The record's weights in a checkpoint, and where they were."""
    checkpoint = checkpoint_at(path, step)
    match = matched(record, checkpoint, subtree)
    with match.precision:
        return match.params(checkpoint), match.place


def assert_params(found, expected):
    assert [leaf.path for leaf in leaves_of(found)] == [leaf.path for leaf in leaves_of(expected)]
    for ours, theirs in zip(values_of(found), values_of(expected), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
