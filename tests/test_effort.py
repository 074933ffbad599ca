"""What the tests do to compile less: programs are kept, and written down in one context after another, as they are."""

import os
import time

import effort
import jax
import jax.numpy as jnp
import kept_programs
import numpy as np
import pytest
from jax._src.interpreters import mlir
from jax._src.lib import xla_client


class Made:
    def __init__(self, content):
        self.content = content

    def serialize(self):
        if self.content is None:
            raise RuntimeError("not serializable")
        return self.content


@pytest.fixture
def asked(tmp_path):
    """Asks for a program, and says whether it was found or made."""

    def ask(key=b"key", content=b"code", load=bytes):
        kept, made = kept_programs.Programs(tmp_path), []
        found = kept.found_or_made(key, load, lambda: made.append(content) or Made(content))
        assert (found.content if made else found) == content
        return "made" if made else "found"

    return ask


def test_what_was_made_is_found_from_then_on(asked, tmp_path, monkeypatch):
    assert [asked(), asked(), asked(b"other"), asked(b"other")] == ["made", "found", "made", "found"]
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")
    assert asked() == "made"  # another compiler's
    assert len(list(tmp_path.iterdir())) == 3


def test_what_cannot_be_kept_or_read_is_made_again(asked, tmp_path):
    assert [asked(content=None), asked(content=None)] == ["made", "made"]
    assert not list(tmp_path.iterdir())
    assert asked() == "made"
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])  # damaged
    assert [asked(), asked()] == ["made", "found"]

    def refuse(_):
        raise RuntimeError("of another JAX")

    assert asked(load=refuse) == "made"


def test_what_nobody_uses_is_forgotten(asked, tmp_path):
    asked()
    (file,) = tmp_path.iterdir()
    long_ago = time.time() - kept_programs.UNUSED - 1
    os.utime(file, (long_ago, long_ago))
    assert asked() == "found"  # and used, by that
    kept_programs.Programs(tmp_path).forget()
    assert file.exists()
    os.utime(file, (long_ago, long_ago))
    kept_programs.Programs(tmp_path).forget()
    assert not file.exists()


def test_a_kept_program_computes_what_it_did(tmp_path):
    """Past what keeps the tests' own programs: XLA cannot write one that was read."""
    program = str(jax.jit(lambda x: jnp.sin(x).sum() + x).lower(jnp.ones(3)).compiler_ir("stablehlo")).encode()
    client = jax.devices()[0].client
    devices, options = client.devices()[:1], xla_client.CompileOptions()
    kept, results = kept_programs.Programs(tmp_path), []
    for _ in range(2):
        found = kept.found_or_made(
            b"key",
            lambda data: client.deserialize_executable(data, devices, options),
            lambda: client.compile_and_load(program, devices, options),
        )
        (result,) = found.execute_sharded([jnp.arange(3.0)]).disassemble_into_single_device_arrays()
        results.append(np.asarray(result[0]))
    assert len(list(tmp_path.iterdir())) == 1
    np.testing.assert_array_equal(*results)


def test_a_context_is_shared_but_not_by_what_is_written_within_another_program():
    make = effort._shared(mlir.JaxIrContext, mlir.ir.Context)
    contexts = [make() for _ in range(effort.TOGETHER + 1)]
    assert len(set(map(id, contexts))) == 2
    with contexts[-1]:
        assert make() is not contexts[-1]
    assert make() is contexts[-1]
