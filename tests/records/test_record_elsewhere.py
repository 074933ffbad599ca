"""A record and the weights of one process, in another one: later, with other instructions, in 64-bit mode."""

import json
import os
import subprocess
import sys
import textwrap

import flax.linen as nn
import numpy as np
import pytest
from recorded import octets

import qrjax

STRICT = {
    "JAX_PLATFORMS": "cpu", "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise",
    "PYTHONWARNINGS": "error:::qrjax",
}  # fmt: skip


def run(code, folder, *arguments, flags="", **environment):
    """Runs code in a fresh process, in a folder, and gives what it prints as JSON."""
    env = os.environ | STRICT | {"XLA_FLAGS": flags} | environment
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, env=env, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.relu(nn.Conv(24, (3, 3), bias_init=qrjax.normal_hash())(x)))
        return nn.Dense(10)(nn.relu(nn.DenseGeneral((6, 11))(x.reshape(len(x), -1)).reshape(len(x), -1)))


READ = """
    import json, numpy as np, qrjax, sys

    found = {}
    for source in sys.argv[1:]:
        params = {}
        for name, array in np.load(source + ".npz").items():
            layer, own = name.split(" ")
            params.setdefault(layer, {})[own] = array
        record = qrjax.Record.load(source + ".json")
        same = qrjax.changes(record, params)
        total, touched = 0, {}
        for number, (layer, own) in enumerate((a, b) for a in params for b in params[a]):
            array = params[layer][own] = params[layer][own].copy()
            places = np.random.default_rng(number).choice(array.size, min(array.size, 3 * number + 1), replace=False)
            array.flat[places] = np.nextafter(array.flat[places], np.float32(9 - number % 2 * 18))
            touched[f"{layer}/{own}"] = len(places)
        found[source] = {
            "untouched": same.total.changed, "weights": same.total.weights, "touched": touched,
            "changed": {row.path: row.changed for row in qrjax.changes(record, params)},
            "weight": float(record.weight("Dense_0/kernel", (5, 7))).hex(), "flax": "flax" in sys.modules,
        }
    print(json.dumps(found))
"""


SOURCES = {"sobol": "truncated_normal", "hash": "normal"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What this process wrote."""
    folder = tmp_path_factory.mktemp("process")
    x = np.random.default_rng(0).standard_normal((16, 8, 8, 3), np.float32)
    for source, law in SOURCES.items():
        options = {"source": source, "distribution": law, "seed": 4, "target": 0.9}
        params = qrjax.autoinit(Network(), x, **options)["params"]
        assert len(params) == 4
        np.savez(folder / source, **{f"{a} {b}": v for a, layer in params.items() for b, v in layer.items()})
        qrjax.record(Network(), x, **options).save(folder / f"{source}.json")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        ("--xla_cpu_max_isa=SSE4_2", {}),
        ("--xla_cpu_max_isa=AVX2", {}),
        ("--xla_cpu_enable_fast_math=true", {"JAX_ENABLE_X64": "1"}),
        ("--xla_force_host_platform_device_count=4", {}),
        ("--xla_backend_optimization_level=0", {}),
    ],
)
def test_what_nobody_touched_is_unchanged_and_the_rest_is_counted(folder, flags, environment):
    found = run(READ, folder, *SOURCES, flags=flags, **environment)
    assert set(found) == set(SOURCES)
    for source, one in found.items():
        assert one["untouched"] == 0
        assert one["weights"] > 100_000
        assert one["changed"] == one["touched"]
        assert sum(one["touched"].values()) > 80
        record = qrjax.Record.load(folder / f"{source}.json")
        assert one["weight"] == float(record.weight("Dense_0/kernel", (5, 7))).hex()
        assert not one["flax"]  # neither the model's code nor its framework


WIDE = """
    import flax.linen as nn, hashlib, jax, jax.numpy as jnp, json, numpy as np, qrjax

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(5, kernel_init=qrjax.he_normal_qr(), bias_init=qrjax.normal_hash(), param_dtype=float)(x)
            x = nn.Dense(6, kernel_init=qrjax.orthogonal_hash(), param_dtype=float)(x)
            return nn.Dense(4, kernel_init=qrjax.he_uniform_hash(), dtype=float, param_dtype=jnp.float32)(x)

    x, key = jnp.ones((2, 7), float), jax.random.key(3)
    variables = Network().init(key, x)
    record = qrjax.Record.from_json(qrjax.record(Network(), x, by="init", key=key).to_json())
    automatic = qrjax.autoinit(Network(), x, key=key)
    again = qrjax.Record.from_json(qrjax.record(Network(), x, key=key).to_json())
    same = []
    for made, by in ((variables, record), (automatic, again)):
        for own, found in zip(jax.tree.leaves(made), jax.tree.leaves(by.initial()), strict=True):
            assert own.dtype == found.dtype and own.tobytes() == found.tobytes()
            same.append(str(own.dtype))
    kernel = variables["params"]["Dense_0"]["kernel"]
    assert record.weight("Dense_0/kernel", (3, 2)) == kernel[3, 2]
    assert kernel.dtype == float and (np.asarray(kernel, np.float32) != kernel).any()
    record.save("wide.json")
    print(json.dumps(same))
"""


@pytest.mark.slow
def test_64_bit_mode(tmp_path):
    # A Dense layer's arithmetic, not its weights, mixes dtypes.
    found = run(WIDE, tmp_path, JAX_ENABLE_X64="1", JAX_NUMPY_DTYPE_PROMOTION="standard")
    assert found == [*["float64"] * 4, *["float32"] * 2] * 2
    record = qrjax.Record.load(tmp_path / "wide.json")
    assert len(octets(record.initial("Dense_2/kernel"))) == 4 * 24
    with pytest.raises(ValueError, match="'Dense_0/kernel' has the dtype float64"):
        record.initial("Dense_0/kernel")


LARGE = """
    import flax.linen as nn, jax, jax.numpy as jnp, json, qrjax, resource, time

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _=None):
            return nn.Dense(x.shape[-1], kernel_init=qrjax.he_normal_qr())(x), None

    class Stack(nn.Module):
        scanned: bool
        @nn.compact
        def __call__(self, x):
            if self.scanned:
                axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
                return nn.scan(Layer, length=4, **axes)()(x, None)[0]
            for _ in range(4):
                x = Layer()(x)[0]
            return x

    def measured():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    x = jax.ShapeDtypeStruct((8, 32768), jnp.float32)
    layer, key = nn.Dense(8, kernel_init=qrjax.he_normal_qr()), jax.random.key(0)
    qrjax.record(layer, jax.ShapeDtypeStruct((8, 8), jnp.float32), by="init", key=key)
    before, found = measured(), []
    for scanned in (False, True):
        for by in ("init", "autoinit"):
            start = time.perf_counter()
            record = qrjax.record(Stack(scanned), x, by=by, seed=0)
            seconds = time.perf_counter() - start
            record.weight(record.paths[-1], (-1, -1))
            weights = sum(e.leaf.shape[-1] * e.leaf.shape[-2] for e in record.entries if len(e.leaf.shape) > 1)
            found.append([by, scanned, seconds, len(record.to_json()), len(record), measured() - before])
    print(json.dumps(found))
"""


@pytest.mark.slow
def test_four_billion_weights_take_seconds_and_kilobytes(tmp_path):
    for by, scanned, seconds, size, leaves, megabytes in run(LARGE, tmp_path):
        assert seconds < 20, (by, scanned)
        assert size < 1024 * (leaves + 4), (by, scanned)
        assert megabytes < 300, (by, scanned)  # the weights are 16 GiB, one layer's 4
