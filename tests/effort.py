"""How much effort XLA spends on a program: compiling is most of what the tests cost."""

import contextlib
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax

EMITTERS = "xla_cpu_use_fusion_emitters"


@functools.cache
def flags() -> str:
    """For the environment of another process in which little is optimized: the same, as XLA's flags."""
    try:
        jax.jit(lambda: 0, compiler_options={EMITTERS: False}).lower().compile()
    except RuntimeError:  # an option that it does not know, which as a flag would end the process
        return ""
    return f"--{EMITTERS}=false"


def emit_loops_sooner() -> None:
    """Where little is optimized, has code for loops made on a CPU in the older way too, which takes half the time.

    No public setting says so for some programs of a process only; a JAX with other insides does without.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from jax._src import compiler

        if not flags() or compiler.compile_or_get_cached.__module__ == __name__:
            return
        compiler.compile_or_get_cached = _sooner(compiler.compile_or_get_cached)


def _sooner(compile_or_get_cached: Callable[..., Any]) -> Callable[..., Any]:
    made: dict[Any, Any] = {}

    def wrapped(backend: Any, module: Any, devices: Any, options: Any, callbacks: Any, *args: Any, **kwargs: Any) -> Any:
        make = functools.partial(compile_or_get_cached, backend, module, devices, options, callbacks, *args, **kwargs)
        if not jax.config.values["jax_disable_most_optimizations"] or backend.platform != "cpu":
            return make()
        options.env_option_overrides += [(EMITTERS, False)]
        if callbacks:  # a program names them by their number only
            return make()
        places = tuple(device.id for device in devices.flat)
        program = module.operation.get_asm(enable_debug_info=False).encode()
        key = hashlib.sha256(program).digest(), options.SerializeAsString(), places
        if key not in made:
            made[key] = make()
        return made[key]

    return wrapped
