"""Several local processes of `process_worker.py`: started together, waited for, killed; what they said if one fails."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

import effort

WORKER = pathlib.Path(__file__).parent / "process_worker.py"


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port of the loopback that nobody is given meanwhile: bound here, listened on by the coordinator."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


class Workers:
    """Processes that write into a folder, each with some devices; none outlives the `with`."""

    def __init__(
        self, folder: pathlib.Path, count: int, devices: int = 1, seconds: float = 300, script: pathlib.Path = WORKER
    ):
        self.folder, self.count, self.devices, self.script = folder, count, devices, script
        self.deadline = time.monotonic() + seconds
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        port = self._resources.enter_context(reserved_port())
        files = [self.folder / f"log.{i}" for i in range(self.count)]
        self._logs = [self._resources.enter_context(file.open("w")) for file in files]
        self.processes = [self._started(port, i) for i in range(self.count)]
        return self

    def _started(self, port: int, process: int) -> subprocess.Popen[str]:
        flags = f"--xla_force_host_platform_device_count={self.devices} {effort.flags()}"
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        env |= {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(WORKER.parents[1]), env.get("PYTHONPATH"))))
        command = [sys.executable, "-W", "error", str(self.script), str(self.folder)]
        command += map(str, (port, self.count, process))
        log = self._logs[process]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, env=env)

    def reports(self, name: str, processes: Sequence[int]) -> list[Any]:
        """What each of these wrote under a name, as soon as all did.

        A process that ends before, or a deadline that passes, is an AssertionError with what all of them printed.
        """
        files = [self.folder / f"{name}.{process}" for process in processes]
        while not all(file.exists() for file in files):
            for process, file in zip(processes, files, strict=True):
                ended = self.processes[process].poll() is not None  # asked first: what it wrote is there by then
                assert file.exists() or not ended, f"process {process} ended without a {name}\n{self._said()}"
            assert time.monotonic() < self.deadline, f"no {name} in time\n{self._said()}"
            time.sleep(0.05)
        return [json.loads(file.read_text()) for file in files]

    def _said(self) -> str:
        logs = [(self.folder / f"log.{i}").read_text()[-3000:] for i in range(self.count)]
        return "\n".join(f"--- process {i}:\n{log}" for i, log in enumerate(logs))

    def tell(self, process: int, line: Any) -> None:
        """A line for a process's standard input."""
        stdin = self.processes[process].stdin
        assert stdin is not None
        stdin.write(f"{line}\n")
        stdin.flush()

    def kill(self, process: int) -> None:
        """Without warning, and until it is gone."""
        self.processes[process].send_signal(signal.SIGKILL)
        assert self.processes[process].wait() == -signal.SIGKILL

    def __exit__(self, *_: Any) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdin.close()
        self._resources.close()
