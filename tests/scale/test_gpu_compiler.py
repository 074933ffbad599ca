"""What a GPU's compiler makes of programs, without a card, where its wheels are installed (extra gpu-compiler)."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench"))
import gpu_compile

BENCH = pathlib.Path(gpu_compile.__file__).parent
pytestmark = pytest.mark.slow
# Where `.ci/run` puts the wheels, apart: JAX looks for a card wherever its plugin is installed.
APART = BENCH.parents[1] / "build" / "gpu-compiler"
# In a process of its own: JAX looks for plugins once, and the other tests are to run on the CPU alone.
CODE = """
import json, re, sys
sys.path.insert(0, {bench!r})
import gpu_compile
if not gpu_compile.installed():
    print("null")
    raise SystemExit
gpu_compile.prepare()
import flax.linen as nn, jax, jax.numpy as jnp, qrjax

words = jax.ShapeDtypeStruct((2,), jnp.uint32)

def net(depth, init):
    return nn.Sequential([part for _ in range(depth) for part in (nn.Dense(512, kernel_init=init), nn.tanh)])

def of_key(draw):
    return lambda words: draw(jax.random.wrap_key_data(words))

programs = {{}}
for depth in (2, 6):
    for name, init in (("default", qrjax.lecun_normal_qr()), ("hash", qrjax.lecun_normal_hash())):
        module = net(depth, init)
        programs[f"{{name}} {{depth}}"] = lambda key, m=module: m.init(key, jnp.zeros((1, 512)))
    module = net(depth, nn.initializers.lecun_normal())
    sample = jax.ShapeDtypeStruct((4, 512), jnp.float32)
    programs[f"autoinit {{depth}}"] = lambda key, m=module: qrjax.autoinit(m, sample, key=key)
found = {{name: gpu_compile.compile_for_h100(of_key(draw), words)._asdict() for name, draw in programs.items()}}
layouts = ("outputs", "neurons", "shuffled", "points", "sequence")
builders = {{layout: qrjax.he_normal_qr(layout=layout) for layout in layouts}}
builders |= {{"hash": qrjax.he_normal_hash(), "linear": qrjax.he_normal_qr(layout="points", scramble="linear")}}
for shape in gpu_compile.SHAPES:
    for dtype in gpu_compile.DTYPES:
        for name, init in builders.items():
            if (name, dtype) == ("linear", "float8_e4m3fn"):
                continue  # whose matrices leave no digit 0: 11 words an input
            draw = of_key(lambda key: init(key, shape, dtype))
            found[f"{{name}} {{dtype}} {{shape}}"] = gpu_compile.compile_for_h100(draw, words)._asdict()
for dtype, short in (("float16", "f16"), ("bfloat16", "bf16"), ("float8_e4m3fn", "f8e4m3fn")):
    text = gpu_compile.compiled_for_h100(
        of_key(lambda key: qrjax.he_normal_hash()(key, (64, 64), dtype).astype(jnp.float32)), words
    ).as_text()
    found[f"rounded to {{dtype}}"] = bool(re.search(rf"= {{short}}\\[[0-9,]*\\]\\S* convert", text))
print(json.dumps(found | {{"version": jax.__version__}}))
"""


@pytest.fixture(scope="module")
def found():
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(APART), os.environ.get("PYTHONPATH"))))}
    command = [sys.executable, "-c", CODE.format(bench=str(BENCH))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    compiled = json.loads(done.stdout.splitlines()[-1])
    if compiled is None:
        pytest.skip("the GPU's compiler is not installed; pip install -e '.[gpu-compiler]'")
    return compiled


@pytest.mark.parametrize("kind", ["default", "hash", "autoinit"])
def test_a_layer_is_a_few_kernels_and_no_temporaries(found, kind):
    for depth in (2, 6):
        one = found[f"{kind} {depth}"]
        # Its key, two of its own, and a share of what is filled with zeros; each operation alone were 500.
        assert one["kernels"] <= 4 * depth + 4
        assert one["temporaries"] <= 0.05


@pytest.mark.parametrize("kind", ["default", "hash", "autoinit"])
def test_equal_layers_are_compiled_once(found, kind):
    if found["version"] not in ("0.10.1", "0.10.2"):
        pytest.skip(f"jax {found['version']} compiles no units for GPUs")
    few, many = found[f"{kind} 2"], found[f"{kind} 6"]
    assert many["kernels"] > few["kernels"]
    assert many["different"] <= few["different"] + 2  # the zeros and keys of more layers


@pytest.mark.parametrize("name", ["outputs", "neurons", "shuffled", "points", "sequence", "hash", "linear"])
def test_a_draw_is_a_few_kernels_with_temporaries_of_a_twentieth(found, name):
    draws = {case: one for case, one in found.items() if case.startswith(f"{name} ") and case.endswith(")")}
    assert len(draws) == (6 if name == "linear" else 9)
    assert [case for case, one in draws.items() if one["temporaries"] > 0.05] == []
    # One writes the tensor; the others what belongs to a row, a column, or the digits of a point.
    most = {"outputs": 2, "hash": 2, "points": 2}.get(name, 5)
    assert [case for case, one in draws.items() if one["kernels"] > most] == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
def test_a_rounding_is_done_though_a_conversion_back_follows(found, dtype):
    assert found[f"rounded to {dtype}"]


def test_kernels_are_counted_in_calls_and_loops():
    text = """HloModule jit_f

%fused_a (p.1: f32[4]) -> f32[4] {
  %p.1 = f32[4]{0} parameter(0)
  ROOT %add.7 = f32[4]{0} add(%p.1, %p.1), metadata={op_name="x"}
}

%fused_b (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  ROOT %add = f32[4]{0} add(%q, %q)
}

%unit (Arg_0: f32[4]) -> f32[4] {
  %Arg_0 = f32[4]{0} parameter(0)
  ROOT %fusion.1 = f32[4]{0} fusion(%Arg_0), kind=kLoop, calls=%fused_a
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %call = f32[4]{0} call(%x), to_apply=%unit
  ROOT %fusion = f32[4]{0} fusion(%call), kind=kLoop, calls=%fused_b
}
"""
    kernels = gpu_compile.launched(text)
    assert len(kernels) == 2
    assert len(set(kernels)) == 1
