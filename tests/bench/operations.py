"""What a weight costs in operations and bytes, counted in the compiled program: the limits on paper.

    python tests/bench/operations.py [--markdown] [--size 4096] [--measure]

For each layout and distribution a matrix is lowered for a TPU and for a GPU; XLA's CPU compiler then simplifies and
fuses either program, and the operations that are left are counted, times the elements that each is done for, over the
number of weights. So what is computed once a row or column counts with its share. Loading a constant, broadcasting,
reinterpreting bits and numbering elements cost nothing.

The GPU is counted in issue slots of an SM's 32-bit lanes: a 64-bit sum, comparison or logical operation is two, a
64-bit product four, the 64-bit product of two 32-bit words two (a wide multiplication), its high word nothing;
counting bits or leading zeros, and reading a table, four; and a division by a constant three (such a product, and a
shift). The TPU has no 64-bit words in its program and reads no tables; a division by a constant is there the product of
16-bit halves and a shift. JAX's own draws are counted in the same way, though a GPU has twice the lanes for floats.

Peaks assumed:
  TPU v5e  819 GB/s (Google's data sheet). 4,096 ALUs, four for each of 8 x 128 lanes ("How to Scale Your Model",
           chapter 2, appendix C: four additions a cycle), at 1.5 GHz (197 Tflop/s over its matrix units' 131,072
           flop a cycle): 6.1e12 operations/s
  H200     4.8 TB/s and 132 SMs (NVIDIA's data sheet), 64 32-bit integer lanes each at 1.98 GHz: 1.67e13 slots/s
Weights per second are the lesser of peak operations over the count and peak bytes over the bytes written; no fusion
reaches both, so these are upper bounds. With --measure, also what this machine does, and the operations per second
that it then does by the GPU's count, whose program is its own too: were the count all, they would be equal from row
to row.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from sampling import Report, environment, show

import qrjax

sys.path.insert(0, str(Path(__file__).parents[1] / "scale"))
from stablehlo import exported

LAYOUTS: dict[str, dict[str, Any]] = {
    "sequence, plain, dim 1": {"layout": "sequence", "dim": 1, "scramble": None},
    "sequence": {"layout": "sequence"},
    "shuffled": {"layout": "shuffled"},
    "outputs (default)": {"layout": "outputs"},
    "neurons": {"layout": "neurons"},
    "points": {"layout": "points"},
}
HASHES: dict[str, dict[str, Any]] = {"hash": {}, "hash, zero_mean": {"zero_mean": True}}
THEIRS = "jax.random"
LAWS = ("uniform", "truncated_normal", "normal")
KEY = jax.random.key(0)
# Names for what is there, and no work.
FREE = {
    "parameter", "constant", "broadcast", "bitcast", "bitcast-convert", "iota", "tuple", "get-tuple-element", "fusion",
    "call", "while", "reshape", "transpose", "slice", "copy", "concatenate", "pad", "dynamic-slice",
    "dynamic-update-slice", "gather", "after-all", "map",
}  # fmt: skip
ENTERED = {"fusion", "call", "while", "map"}
COUNTS_BITS = {"popcnt", "count-leading-zeros"}
WIDE = {"u64", "s64"}
FLOATS = {"f16", "bf16", "f32"}
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(\S+) = (\S.*?) ([a-z][a-z\-]*)\((.*)$")
ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
COMPUTATION = re.compile(r"^(?:ENTRY )?%(\S+) \(.*\{$")
CALLED = re.compile(r"(?:calls|to_apply|body)=%([^\s,}]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Instruction(NamedTuple):
    """A line of HLO: its type's first array, and what it says of others."""

    name: str
    element: str
    size: int
    operation: str
    operands: tuple[str, ...]
    text: str


class Count(NamedTuple):
    """A program's operations, by element type, and the bytes that go in beside the key and out."""

    integers: float
    floats: float
    written: int
    read: int


class Chip(NamedTuple):
    """Peaks, and which program and which prices it gets."""

    name: str
    platform: str
    operations: float
    bandwidth: float


TPU = Chip("TPU v5e", "tpu", 4 * 8 * 128 * 1.5e9, 819e9)
GPU = Chip("H200", "cuda", 132 * 64 * 1.98e9, 4.8e12)
CHIPS = (TPU, GPU)
HALVES = 16  # operations of a product's high word by 16-bit halves
LOOK_UP = 4  # issue slots of a GPU's: loads are issued to a quarter of the lanes in a clock


def computations(text: str) -> dict[str, list[Instruction]]:
    """The instructions of every computation of a module."""
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        if heading := COMPUTATION.match(line):
            current = found.setdefault("ENTRY" if line.startswith("ENTRY") else heading[1], [])
        elif match := INSTRUCTION.match(line):
            name, kind, operation, rest = match.groups()
            array = ARRAY.search(kind)
            element, shape = array.groups() if array else ("", "")
            size = 1
            for n in filter(None, shape.split(",")):
                size *= int(n)
            operands = tuple(re.findall(r"%([^\s,)]+)", rest.partition("), ")[0]))
            current.append(Instruction(name, element, size, operation, operands, rest))
    return found


def executed(text: str) -> Iterator[tuple[Instruction, dict[str, Instruction], int]]:
    """Every instruction, with its computation's and how many times it runs.

    Loops turn, fusions are entered once, and what is mapped over an array is entered for each of its elements.
    """
    module = computations(text)

    def walk(name: str, times: int) -> Iterator[tuple[Instruction, dict[str, Instruction], int]]:
        scope = {i.name: i for i in module[name]}
        for instruction in module[name]:
            yield instruction, scope, times
            if instruction.operation in ENTERED:
                trips = TRIPS.search(instruction.text)
                turns = int(trips[1]) if instruction.operation == "while" and trips else 1
                turns = instruction.size if instruction.operation == "map" else turns
                for inner in CALLED.findall(instruction.text):
                    yield from walk(inner, times * turns)

    return walk("ENTRY", 1)


def price(instruction: Instruction, scope: dict[str, Instruction], chip: Chip) -> float:
    """Operations for one element."""
    operation = instruction.operation
    if is_look_up(instruction):
        return LOOK_UP
    operands = [scope[name] for name in instruction.operands if name in scope]
    if operation == "convert":
        # Between words of one length a conversion renames; from and to floats it works.
        return float(instruction.element in FLOATS or any(o.element in FLOATS for o in operands))
    if operation == "divide" and instruction.element not in FLOATS:
        return 3 if chip is GPU else HALVES + 1
    if operation in COUNTS_BITS:
        return 4 if chip is GPU else 1
    if not {instruction.element, *(o.element for o in operands)} & WIDE:
        return 1
    if operation == "multiply":
        return 2 if all(o.operation == "convert" for o in operands) else 4
    if operation.startswith("shift") and constant(operands[-1], scope) == 32:
        return 0
    return 2


def is_look_up(instruction: Instruction) -> bool:
    """Whether a table is read: for one element, and not for a part of an array that others are made of."""
    return instruction.operation == "dynamic-slice" and instruction.size == 1


def constant(instruction: Instruction, scope: dict[str, Instruction]) -> int | None:
    """The number that fills an array, where there is one."""
    while instruction.operation in ("broadcast", "convert") and instruction.operands[0] in scope:
        instruction = scope[instruction.operands[0]]
    number = re.match(r"-?\d+", instruction.text) if instruction.operation == "constant" else None
    return int(number[0]) if number else None


def counted(text: str, chip: Chip, result_bytes: int) -> Count:
    """Of a compiled program that writes `result_bytes`."""
    integers = floats = 0.0
    short: dict[str, int] = {}
    for instruction, scope, times in executed(text):
        if instruction.operation == "parameter" and instruction.size > 1:
            short[instruction.name] = instruction.size * 4
        if instruction.operation in FREE and not is_look_up(instruction):
            continue
        size = instruction.size
        if instruction.operation == "reduce":
            size = sum(scope[name].size for name in instruction.operands if name in scope)
        cost = price(instruction, scope, chip) * size * times
        if instruction.element in FLOATS:
            floats += cost
        else:
            integers += cost
    return Count(integers, floats, result_bytes, sum(b for b in short.values() if b < result_bytes / 8))


def draw_of(source: str, law: str, dtype: str) -> Any:
    if source == THEIRS:
        return jax.nn.initializers.variance_scaling(1.0, "fan_in", law, dtype=dtype)  # type: ignore[arg-type]
    options = LAYOUTS.get(source, HASHES.get(source, {}))
    build = qrjax.variance_scaling_hash if source in HASHES else qrjax.variance_scaling_qr
    return build(1.0, "fan_in", law, dtype=dtype, **options)


def count(source: str, law: str, dtype: str, size: int, chip: Chip) -> Count:
    """Of a square matrix, as the chip's program; a TPU's is exported for it and simplified on this machine."""
    init = draw_of(source, law, dtype)
    program = exported(lambda key: init(key, (size, size)), KEY, platforms=(chip.platform,), anywhere=True)
    compiled = jax.jit(program.call).lower(KEY).compile()
    return counted(compiled.as_text(), chip, size * size * jax.numpy.dtype(dtype).itemsize)


def bound(found: Count, chip: Chip, weights: int) -> tuple[float, str]:
    """Weights a second, and what holds it there."""
    work = (found.integers + found.floats) / weights
    computing = chip.operations / work
    writing = chip.bandwidth / ((found.written + found.read) / weights)
    return min(computing, writing), "operations" if computing < writing else "memory"


def measured(source: str, law: str, dtype: str, size: int, repeats: int) -> float:
    """Weights a second on this machine; the median."""
    init = draw_of(source, law, dtype)
    call: Callable[[Any], Any] = jax.jit(lambda key: init(key, (size, size))).lower(KEY).compile()
    seconds = []
    for turn in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(call(KEY))
        if turn:
            seconds.append(time.perf_counter() - start)
    return size * size / statistics.median(seconds)


def report(size: int, dtype: str, repeats: int, sources: list[str], laws: list[str]) -> Report:
    columns = ["source", "values"]
    for chip in CHIPS:
        columns += [f"integer, {chip.name}", f"weights/s, {chip.name}", "bound by"]
    columns += ["float", "bytes written", "read"]
    if repeats:
        columns += ["weights/s here", "operations/s here"]
    lines = [line(source, law, dtype, size, repeats) for law in laws for source in sources]
    return Report(f"Operations a weight, {size} x {size} in {dtype}", columns, lines)


def line(source: str, law: str, dtype: str, size: int, repeats: int) -> list[str]:
    weights, cells = size * size, [source, law.replace("_", " ")]
    for chip in CHIPS:
        found = count(source, law, dtype, size, chip)
        rate, holds = bound(found, chip, weights)
        cells += [f"{found.integers / weights:.0f}", f"{rate:.1e}", holds]
    cells += [f"{found.floats / weights:.0f}", f"{found.written / weights:.0f}", f"{found.read / weights:.3f}"]
    if repeats:
        rate = measured(source, law, dtype, size, repeats)
        cells += [f"{rate:.1e}", f"{rate * (found.integers + found.floats) / weights:.1e}"]
    return cells


def crossovers(dtype: str) -> Report:
    """How many operations a weight may take before they, and not the memory, set the pace."""
    width = jax.numpy.dtype(dtype).itemsize
    lines = [
        [
            chip.name,
            f"{chip.operations:.2e}",
            f"{chip.bandwidth:.2e}",
            f"{chip.operations * width / chip.bandwidth:.0f}",
        ]
        for chip in CHIPS
    ]
    return Report("Where memory ends and operations begin", ("chip", "operations/s", "bytes/s", "operations"), lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the matrix")
    parser.add_argument("--dtype", default="float32", help="of the weights")
    parser.add_argument(
        "--measure", type=int, default=0, metavar="RUNS", help="also time so many draws on this machine"
    )
    parser.add_argument("--source", action="append", choices=[*LAYOUTS, *HASHES, THEIRS], help="a row; all by default")
    parser.add_argument("--law", action="append", choices=LAWS, help="a distribution; all by default")
    options = parser.parse_args()
    warnings.simplefilter("ignore", qrjax.RankCollapseWarning)
    sources, laws = options.source or [*LAYOUTS, *HASHES, THEIRS], options.law or list(LAWS)
    found = report(options.size, options.dtype, options.measure, sources, laws)
    show([found, crossovers(options.dtype)], environment(), options.markdown)


if __name__ == "__main__":
    main()
