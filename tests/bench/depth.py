"""Does initialization help to train deep networks? The tables of the book's page on gradients.

    python tests/bench/depth.py [--only PATTERN ...] [--seeds 5] [--steps 800] [--check 20] [--journal depth.jsonl]
                                [--show] [--markdown] [--quick]

Every network of `cells` from every arm of `arms.ARMS`: rates tuned for each arm on the validation part (three rates,
two seeds), at most 800 minibatches of 32, early stopping, the test part looked at where validation was best. A result
is noted in the journal as soon as it is known, so that a run that was killed goes on; --show trains nothing and prints
what the journal holds, --quick shrinks all. The cells come in the order of their importance. Of one hundred layers an
arm takes 20 to 40 s of one core, of ten 5 s.

Tables: mean test accuracy; differences in pairs of seeds with 95 % bootstrap intervals (BCa), and p-values of
Student's paired test corrected by Holm over all comparisons of the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import arms
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from sampling import Report, environment, show, version

from qrjax._experiments._convolution import convolution_by_matmul
from qrjax._experiments._training import Data

Activation = Callable[[Array], Array]
ACTIVATIONS: dict[str, Activation] = {
    "tanh": jnp.tanh, "gelu": nn.gelu, "swish": nn.swish, "relu": nn.relu, "softplus": nn.softplus,
    "selu": nn.selu, "mish": jax.nn.mish, "leaky relu": lambda x: nn.leaky_relu(x, 0.8),
    "shifted relu": lambda x: nn.relu(x + 1) - 1,
}  # fmt: skip
CLASSES, CHANNELS, PATCH, STEPS = 10, 16, 5, 100
SIGNIFICANT = 0.05


class _Layer(nn.Module):
    f: Activation
    width: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, None]:
        return self.f(nn.Dense(self.width)(x)), None


class _Filters(nn.Module):
    f: Activation
    width: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, None]:
        # As a matrix product: on a CPU four times as fast as XLA's convolution.
        convolution = nn.Conv(self.width, (3,) * (x.ndim - 2), conv_general_dilated=convolution_by_matmul)
        return self.f(convolution(x)), None


class _Residual(nn.Module):
    f: Activation
    width: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, None]:
        return x + nn.Dense(self.width)(self.f(nn.Dense(self.width)(x))), None


class _Normalized(nn.Module):
    f: Activation
    width: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, None]:
        return self.f(nn.LayerNorm()(nn.Dense(self.width)(x))), None


class _Block(nn.Module):
    f: Activation
    width: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, None]:
        x = x + nn.MultiHeadDotProductAttention(4)(x)
        return x + nn.Dense(self.width)(self.f(nn.Dense(2 * self.width)(x))), None


def stacked(layer: type[nn.Module], count: int, *settings: Any) -> Callable[[Array], Array]:
    """So many layers one after the other, whose weights lie in one array."""
    scanned = nn.scan(layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=count)
    return lambda x: scanned(*settings)(x)[0]


class Chain(nn.Module):
    """Dense, or normalized, layers and nothing else."""

    f: Activation
    depth: int
    width: int
    layer: type[nn.Module] = _Layer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x, _ = self.layer(self.f, self.width)(x.reshape(len(x), -1))
        return nn.Dense(CLASSES)(stacked(self.layer, self.depth - 2, self.f, self.width)(x))


class Convolutions(nn.Module):
    """Convolutions of 3, then the mean over all places."""

    f: Activation
    depth: int
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x, _ = _Filters(self.f, self.width)(x)
        x = stacked(_Filters, self.depth - 2, self.f, self.width)(x)
        return nn.Dense(CLASSES)(x.mean(range(1, x.ndim - 1)))


class Residuals(nn.Module):
    """Blocks x + W f(V x) without norms."""

    f: Activation
    depth: int
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Dense(self.width)(x.reshape(len(x), -1))
        return nn.Dense(CLASSES)(stacked(_Residual, self.depth, self.f, self.width)(x))


class Transformer(nn.Module):
    """Blocks of attention and two dense layers without norms, over patches."""

    f: Activation
    depth: int
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Dense(self.width)(x.reshape(len(x), -1, x.shape[-1] * PATCH if x.ndim == 3 else x.shape[2]))
        x = x + self.param("places", nn.initializers.normal(0.5), x.shape[1:])
        return nn.Dense(CLASSES)(stacked(_Block, self.depth, self.f, self.width)(x).mean(1))


class Recurrent(nn.Module):
    """The last state of a recurrence over 100 steps."""

    cell: type[nn.RNNCellBase]
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(CLASSES)(nn.RNN(self.cell(self.width))(x)[:, -1])


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network on one dataset.

    Attributes:
      gain: of orthogonal kernels.
      twin: the name of the shallow network that a deep one is compared with.
    """

    name: str
    data: str
    module: nn.Module
    gain: float
    twin: str = ""
    optimizer: str = "adam"


def gain(activation: str) -> float:
    """The customary: root two behind what is one-sided, 1 behind what is a line at zero."""
    return 1.0 if activation in ("tanh", "selu", "leaky relu", "shifted relu") else 2**0.5


def chains(data: str, depth: int, names: Sequence[str], width: int = 64, optimizer: str = "adam") -> list[Cell]:
    def name(activation: str, depth: int) -> str:
        return f"{data}, {activation}, {depth} x {width}" + (f", {optimizer}" if optimizer != "adam" else "")

    return [
        Cell(name(f, depth), data, Chain(ACTIVATIONS[f], depth, width), gain(f), name(f, 10), optimizer) for f in names
    ]


def others(data: str, what: str, layers: Callable[[Activation], nn.Module], names: Sequence[str]) -> list[Cell]:
    return [Cell(f"{data}, {what}, {f}", data, layers(ACTIVATIONS[f]), gain(f)) for f in names]


def cells() -> list[Cell]:
    """In the order of their importance."""
    main, rest = ("tanh", "gelu", "swish", "relu"), ("shifted relu", "leaky relu", "softplus", "selu", "mish")
    deep = ("relu", "swish", "shifted relu", "selu", "softplus", "mish")
    recurrent = {"LSTM": nn.OptimizedLSTMCell, "GRU": nn.GRUCell}
    return [
        *chains("digits", 10, (*main, *rest)),
        *chains("digits", 100, (*main, *rest)),
        *others("digits", "2 layers", lambda f: Chain(f, 3, 64), ("relu", "gelu")),
        *others("digits", "20 layers with norms", lambda f: Chain(f, 20, 64, _Normalized), ("relu", "gelu")),
        *others("digits", "12 residual blocks", lambda f: Residuals(f, 12, 64), ("relu", "gelu")),
        *chains("mnist1d", 10, ("tanh", "gelu", *deep)),
        *chains("mnist1d", 50, ("tanh", "gelu")),
        *others("digits", "12 transformer blocks", lambda f: Transformer(f, 12, 32), ("gelu",)),
        *chains("digits", 50, ("selu", "softplus", "mish")),
        *chains("mnist1d", 50, deep),
        *chains("digits", 10, ("tanh", "gelu"), optimizer="momentum"),
        *chains("digits", 100, ("tanh", "gelu"), optimizer="momentum"),
        *others("mnist1d", "30 convolutions", lambda f: Convolutions(f, 30, CHANNELS), ("tanh", "relu", "gelu")),
        *(Cell(f"mnist1d, {name}, 100 steps", "long", Recurrent(c, 32), 1.0) for name, c in recurrent.items()),
        *chains("digits", 20, (*main, *rest)),
        *chains("digits", 50, (*main, "shifted relu", "leaky relu")),
        *chains("digits", 10, main, 256),
        *chains("digits", 100, main, 256),
    ]


@functools.cache
def data(name: str) -> Data:
    if name == "long":
        return arms.mnist1d(STEPS)
    return {"digits": arms.digits, "mnist1d": arms.mnist1d}[name]()


def settings(cell: Cell, arm: str, seeds: int, schedule: arms.Schedule) -> dict[str, Any]:
    return {"cell": cell.name, "arm": arm, "seeds": seeds, **schedule._asdict()}


def trained(chosen: Sequence[Cell], journal: arms.Journal, seeds: int, schedule: arms.Schedule) -> None:
    """Whatever the journal does not hold yet; its progress goes to standard error."""
    missing = [c for c in chosen if any(journal.get(settings(c, a, seeds, schedule)) is None for a in arms.ARMS)]
    print(f"{len(missing)} networks to train, from {len(arms.ARMS)} arms each", file=sys.stderr, flush=True)
    for number, cell in enumerate(missing, 1):
        began = time.perf_counter()
        trainer = arms.Trainer(cell.module, data(cell.data), cell.optimizer, schedule)
        journal.once(settings(cell, "chosen", seeds, schedule), functools.partial(said, cell))
        for name, arm in arms.ARMS.items():
            result = journal.once(
                settings(cell, name, seeds, schedule), functools.partial(arms.tuned, trainer, arm, seeds, cell.gain)
            )
            line = f"  {name}: {100 * np.mean(result['test']):.1f} % at {result['rate']:g}, {result['seconds']} s"
            print(line, file=sys.stderr, flush=True)
        took = time.perf_counter() - began
        print(f"{number} of {len(missing)}: {cell.name}, {took:.0f} s", file=sys.stderr, flush=True)
        jax.clear_caches()


def said(cell: Cell) -> dict[str, Any]:
    """What `target="stable"` chooses."""
    found = arms.chosen(cell.module, data(cell.data).train_inputs[: arms.SAMPLE])
    return {"octaves": float(np.log2(found.smallest)), "advised": found.advised}


Results = Mapping[tuple[str, str], Any]


def known(chosen: Sequence[Cell], journal: arms.Journal, seeds: int, schedule: arms.Schedule) -> Results:
    """By cell and arm; cells of which an arm is missing are left out."""
    found = {}
    for cell in chosen:
        each = {a: journal.get(settings(cell, a, seeds, schedule)) for a in (*arms.ARMS, "chosen")}
        if all(each.values()):
            found |= {(cell.name, a): result for a, result in each.items()}
    return found


def accuracies(chosen: Sequence[Cell], results: Results) -> Report:
    """Mean test accuracies, marked where they differ from the default's."""
    pairs = {(c, a): compare(results, c, a) for c, a in results if a not in (arms.DEFAULT, "chosen")}
    p_values = arms.adjusted(pairs)
    lines = []
    for cell in chosen:
        if (cell.name, arms.DEFAULT) not in results:
            continue
        marks = {
            a: mark(pairs[cell.name, a].difference, p_values[cell.name, a]) for a in arms.ARMS if a != arms.DEFAULT
        }
        figures = [
            f"{100 * np.mean(results[cell.name, a]['test']):.1f}" + marks.get(a, "") for a in arms.ARMS
        ]  # fmt: skip
        lines.append([cell.name, *figures, choice(results[cell.name, "chosen"])])
    columns = ("network", *arms.ARMS, "stable chooses")
    return Report("Mean test accuracy, %; + better than the default, - worse (Holm, 5 %)", columns, lines)


def compare(results: Results, cell: str, arm: str) -> arms.Compared:
    return arms.compared(results[cell, arm]["test"], results[cell, arms.DEFAULT]["test"])


def mark(difference: float, p_value: float) -> str:
    return "" if p_value >= SIGNIFICANT else " +" if difference > 0 else " -"


def choice(found: Mapping[str, Any]) -> str:
    size = f"2^{found['octaves']:.0f}" if found["octaves"] else "1"
    return size + (", orthogonal" if found["advised"] else "")


def advised(results: Results, cell: str) -> Any:
    """What `stable` comes to where its own advice is followed."""
    return results[cell, arms.STABLE_ORTHOGONAL if results[cell, "chosen"]["advised"] else arms.STABLE]


def differences(chosen: Sequence[Cell], results: Results) -> Report:
    """Of what is said of `stable`: against the default, and against the shallow twin."""
    lines, pairs = [], {}
    for cell in chosen:
        if (cell.name, arms.DEFAULT) not in results:
            continue
        ours = advised(results, cell.name)["test"]
        pairs[cell.name, "default"] = arms.compared(ours, results[cell.name, arms.DEFAULT]["test"])
        if cell.twin != cell.name and (cell.twin, arms.DEFAULT) in results:
            best = max((results[cell.twin, a] for a in arms.ARMS), key=lambda r: np.mean(r["validation"]))["test"]
            pairs[cell.name, "twin"] = arms.compared(ours, advised(results, cell.twin)["test"])
            pairs[cell.name, "best twin"] = arms.compared(ours, best)
    p_values = arms.adjusted(pairs)
    for name in dict.fromkeys(cell for cell, _ in pairs):
        of = [pairs.get((name, other)) for other in ("default", "twin", "best twin")]
        said = [f"{one.difference:+.1f} [{one.low:+.1f}, {one.high:+.1f}]" if one else "" for one in of]
        lines.append([name, *said, f"{p_values[name, 'default']:.2g}"])
    columns = ("network", "to the default", "to 10 layers, stable", "to 10 layers, best arm", "p (default)")
    return Report("`stable`, its advice followed: points of test accuracy", columns, lines)


def rates(chosen: Sequence[Cell], results: Results) -> Report:
    """Which rates were chosen, and when training ended."""
    names = [cell.name for cell in chosen if (cell.name, arms.DEFAULT) in results]
    lines = [
        [name, *(f"{r['rate']:g}, {np.mean(r['best']):.0f}" for r in (results[name, a] for a in arms.ARMS))]
        for name in names
    ]
    return Report("Rate chosen, and mean step of the best validation", ("network", *arms.ARMS), lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of networks' names")
    parser.add_argument("--seeds", type=int, default=5, help="pairs (default: %(default)s)")
    parser.add_argument(
        "--journal", type=Path, default=Path("depth.jsonl"), help="lines of JSON (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=800, help="minibatches at most (default: %(default)s)")
    parser.add_argument("--check", type=int, default=20, help="of these, between two looks (default: %(default)s)")
    parser.add_argument("--show", action="store_true", help="train nothing")
    parser.add_argument("--quick", action="store_true", help="two seeds and forty steps, to see that all works")
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    options = parser.parse_args()
    # Looks without progress end a training after as many minibatches, however often one looks.
    longer = arms.Schedule(steps=options.steps, check=options.check, patience=max(1, 200 // options.check))
    seeds, schedule = (2, arms.Schedule(steps=40)) if options.quick else (options.seeds, longer)
    chosen = [cell for cell in cells() if any(fnmatch.fnmatch(cell.name, pattern) for pattern in options.only)]
    journal = arms.Journal(options.journal)
    if not options.show:
        trained(chosen, journal, seeds, schedule)
    results = known(chosen, journal, seeds, schedule)
    facts = environment() | {name: version(name) for name in ("flax", "optax")} | {"seeds": str(seeds)}
    show([table(chosen, results) for table in (accuracies, differences, rates)], facts, options.markdown)


if __name__ == "__main__":
    main()
