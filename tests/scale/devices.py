"""Functions of the files here, run in a process that sees as many host devices as are asked for.

    python devices.py

answers there: a line of JSON with module, function and arguments, a line with what came of it.
"""

import atexit
import functools
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import effort
import jax

HERE = pathlib.Path(__file__).parent
COLLECTIVE = re.compile(
    r"\b(?:all-gather|all-reduce|all-to-all|ragged-all-to-all|reduce-scatter|collective-permute|collective-broadcast"
    r"|send|recv)(?:-start)?\("
)


def write(file: pathlib.Path, value: Any) -> None:
    """Whole or not at all, since somebody waits for it."""
    temporary = file.with_name(file.name + ".part")
    temporary.write_text(json.dumps(value))
    temporary.rename(file)


def join(port: str, processes: int, process: int) -> None:
    """Makes this process one of several on this machine. A killed one would take the others along after ten minutes."""
    address = f"127.0.0.1:{port}"
    jax.distributed.initialize(
        address, processes, process, coordinator_bind_address=address, heartbeat_timeout_seconds=600
    )


def end_by(main: Callable[..., None]) -> NoReturn:
    """What one of several processes does, by FOLDER PORT PROCESSES PROCESS, and its end."""
    status = 1
    try:
        main(pathlib.Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
        status = 0
    except BaseException:
        traceback.print_exc()
    # Without a farewell to the others, some of whom may be gone, and would be waited for.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run(module: str, function: str, *arguments: Any, devices: int = 8, fresh: bool = False) -> Any:
    """What the function returns there; arguments and result as JSON.

    All calls are answered by one process, which compiles once what they share; `fresh`: by one of its own.
    """
    process = Answering(devices) if fresh else answering(devices)
    try:
        return process.ask(module, function, *arguments)
    finally:
        if fresh:
            process.end()


class Answering:
    """A process of this file, with what it prints in a file of its own."""

    def __init__(self, devices: int):
        flags = f"--xla_force_host_platform_device_count={devices}"
        path = os.pathsep.join(filter(None, (str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH"))))
        env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
        self.printed = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `end`)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.printed}
        self.process = subprocess.Popen([sys.executable, __file__], text=True, env=env, **pipes)

    def ask(self, *asked: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the process ended with status {self.process.wait()} at {asked}:\n{self._said()}"
        found, failed = json.loads(answer)
        assert not failed, f"{asked} failed:\n{failed}"
        return found

    def _said(self) -> str:
        self.printed.seek(0)
        return self.printed.read()[-3000:]

    def end(self) -> None:
        self.process.communicate()
        self.printed.close()


@functools.cache
def answering(devices: int) -> Answering:
    found = Answering(devices)
    atexit.register(found.end)
    return found


def answer() -> None:
    """Until the questions end. What the functions print is no answer."""
    effort.emit_loops_sooner()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        module, function, *arguments = json.loads(line)
        try:
            result = [getattr(importlib.import_module(module), function)(*arguments), None]
        except Exception:
            result = [None, traceback.format_exc()]
        print(json.dumps(result), file=answers, flush=True)


def strict(optimized: bool = True) -> None:
    """As the tests themselves are run, for a process of its own; `optimized`: compiled with all effort."""
    import qrjax

    jax.config.update("jax_disable_most_optimizations", not optimized)
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


if __name__ == "__main__":
    answer()
