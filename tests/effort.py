"""How much effort XLA spends on a program: compiling is most of what the tests cost."""

import contextlib
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
from kept_programs import Programs

# Loops in the older way, which takes half the time, and a program in one piece, which takes a sixth less.
OPTIONS = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}

KEPT = 500  # compiled programs, of which each takes memory
TOGETHER = 200  # programs written down in one of MLIR's contexts, which keeps their constants and types


@functools.cache
def known() -> tuple[tuple[str, Any], ...]:
    """The options that this XLA has; another one, as a flag, would end the process."""
    return tuple(option for option in OPTIONS.items() if _is_known(*option))


def _is_known(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except RuntimeError:
        return False
    return True


def flags() -> str:
    """For the environment of another process in which little is optimized: the same, as XLA's flags."""
    return " ".join(f"--{name}={str(value).lower()}" for name, value in known())


def of_another_process() -> dict[str, str]:
    """Its environment's part that has it, too, compile with little effort."""
    settings = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0"}
    return settings | {"XLA_FLAGS": flags()}


def emit_loops_sooner(kept: Programs | None = None) -> None:
    """Where little is optimized, has code made on a CPU in the quickest way.

    And programs that are alike, as those of functions made anew, are then compiled once in a process. Those that are
    kept are not compiled at all, whatever effort was spent on them.

    No public setting says so for some programs of a process only; a JAX with other insides does without.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src import compiler

        if not known() or compiler.compile_or_get_cached.__module__ == __name__:
            return
        compiler.compile_or_get_cached = _sooner(compiler.compile_or_get_cached, kept)


def share_contexts() -> None:
    """Has JAX write down its programs in one of MLIR's contexts after the other, not each in one of its own.

    A context with all dialects takes as long to make as a small program to write down, and 2 MB. What is written is
    the same. A JAX with other insides does without.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src.interpreters import mlir

        if mlir.make_ir_context.__module__ != __name__:
            mlir.make_ir_context = _shared(mlir.make_ir_context, mlir.ir.Context)


def _shared(make_ir_context: Callable[[], Any], contexts: Any) -> Callable[[], Any]:
    uses, context = 0, None

    def wrapped() -> Any:
        nonlocal uses, context
        if contexts.current is not None:  # within another program, into which MLIR would write this one
            return make_ir_context()
        if uses % TOGETHER == 0:
            context = make_ir_context()
        uses += 1
        return context

    return wrapped


def _sooner(compile_or_get_cached: Callable[..., Any], kept: Programs | None) -> Callable[..., Any]:
    made: dict[Any, Any] = {}

    def wrapped(backend: Any, module: Any, devices: Any, options: Any, callbacks: Any, *args: Any, **more: Any) -> Any:
        make = functools.partial(compile_or_get_cached, backend, module, devices, options, callbacks, *args, **more)
        quickly = jax.config.values["jax_disable_most_optimizations"]
        if backend.platform != "cpu":
            return make()
        if quickly:
            options.env_option_overrides += known()
        if callbacks:  # a program names them by their number only
            return make()
        places = tuple(device.id for device in devices.flat)
        program = module.operation.get_asm(enable_debug_info=False).encode()
        key = hashlib.sha256(program).digest(), options.SerializeAsString(), places
        if (found := made.pop(key, None)) is None:

            def load(data: bytes) -> Any:
                return backend.deserialize_executable(data, args[0], options)

            found = kept.found_or_made(repr(key).encode(), load, make) if kept else make()
        if quickly:
            made[key] = found  # the last used is the last to go
        if len(made) > KEPT:
            del made[next(iter(made))]
        return found

    return wrapped
