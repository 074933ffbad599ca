"""Functions of the files here, run in a fresh process that sees as many host devices as are asked for."""

import json
import os
import pathlib
import re
import subprocess
import sys
import warnings
from typing import Any

import jax

HERE = pathlib.Path(__file__).parent
CODE = "import json, sys, {module}; print(json.dumps({module}.{function}(*json.loads(sys.argv[1]))))"
COLLECTIVE = re.compile(
    r"\b(?:all-gather|all-reduce|all-to-all|ragged-all-to-all|reduce-scatter|collective-permute|collective-broadcast"
    r"|send|recv)(?:-start)?\("
)


def run(module: str, function: str, *arguments: Any, devices: int = 8) -> Any:
    """What the function returns there; arguments and result as JSON."""
    env = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent))),
    }  # fmt: skip
    command = [sys.executable, "-c", CODE.format(module=module, function=function), json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])  # jax 0.12 has a word to say before


def strict() -> None:
    """As the tests themselves are run, for a process of its own."""
    import qrjax

    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", qrjax.RankCollapseWarning)


def collectives(compiled: jax.stages.Compiled) -> list[str]:
    """The operations of a compiled program by which devices talk to each other."""
    return sorted({found.rstrip("(") for found in COLLECTIVE.findall(compiled.as_text())})


def temporaries(compiled: jax.stages.Compiled) -> float:
    """Of one device, in shares of what it holds in the end."""
    memory = compiled.memory_analysis()
    return memory.temp_size_in_bytes / memory.output_size_in_bytes
