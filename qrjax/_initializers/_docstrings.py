"""One docstring template for all builders, so that they cannot drift apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from qrjax._initializers._arguments import built_first

F = TypeVar("F", bound=Callable[..., Any])

TEMPLATE = """{summary}

{guarantee}

Args:
{arguments}

Returns:
  An initializer `init(key, shape, dtype=None, out_sharding=None)`; {range}. `init.at(key, shape, index)`
  computes single weights; `init.stream('query')` is one like it that draws other weights from the same key.
  Initializers built with equal arguments are equal.

Raises:
  TypeError: for an argument of a wrong type.
  ValueError: for a value out of range; the message names the argument and the remedy.

Example:
  >>> import jax, qrjax
  >>> init = qrjax.{call}
  >>> weights = init(jax.random.key(0), {shape})
  >>> bool(init.at(jax.random.key(0), {shape}, {index}) == weights[{index}])
  True

Reference: {reference}
"""

SOURCES = {
    "qr": (
        "The values are points of a Sobol' sequence, so they fill the distribution more evenly than independent "
        "draws;\n`layout` says over which groups of weights.",
        "Joe and Kuo 2008, SIAM J. Sci. Comput. 30 (the sequence); Miranskyy et al. 2024, arXiv 2408.02654\n"
        "  (Sobol' initialization)",
    ),
    "hash": (
        "Every value is the SplitMix64 hash of the key and the weight's coordinates: it does not depend on the "
        "shape,\nscale aside. So a tensor that grows along any axis keeps its old weights as its corner: exactly where "
        "the\nscale is fixed or its fan stays, else up to the ratio of the scales. With `zero_mean` this holds for the "
        "axes\nof outputs and batches.",
        "Steele, Lea, Flood 2014, OOPSLA, figure 17 (SplitMix64)",
    ),
}

ARGUMENTS = {
    "scale": "scale: {scale}.",
    "stddev": "stddev: standard deviation, before truncation if there is any; positive.",
    "mean": "mean: mean of the distribution.",
    "minval": "minval: lower bound, exclusive.",
    "maxval": "maxval: upper bound, exclusive; above `minval`.",
    "lower": "lower: lower truncation bound in units of `stddev`, exclusive.",
    "upper": "upper: upper truncation bound in units of `stddev`, exclusive.",
    "mode": "mode: 'fan_in', 'fan_out', 'fan_avg' or 'fan_geo_avg'; which n divides the variance.",
    "distribution": "distribution: 'truncated_normal' (at two standard deviations), 'normal' or 'uniform'.",
    "in_axis": "in_axis: axis or axes of the inputs.",
    "out_axis": "out_axis: axis or axes of the outputs.",
    "batch_axis": "batch_axis: axis or axes of independent matrices; axes not named are the receptive field.",
    "column_axis": "column_axis: the axis that holds the orthonormal columns.",
    "dtype": "dtype: what weights are by default; float32, bfloat16, float16, float64 or, where JAX has it, complex.",
    "layout": "layout: 'outputs' (for every input, its weights to all outputs are stratified; they nearly cancel, so\n"
    "    that the sum over all outputs is lost), 'neurons' (every neuron's own weights; they sum to 0, so AutoInit's\n"
    "    gains suit it and textbook ones do not, and behind ReLUs the gain that keeps the signal multiplies gradients\n"
    "    by 1.47 a layer), 'shuffled' (the whole tensor), 'points' (neurons are multi-dimensional points) or\n"
    "    'sequence' (the paper's order, which collapses the rank of matrices).",
    "dim": "dim: Sobol' dimension in [1, 21201]; the first one for 'points'. None: chosen by the key for\n"
    "    'sequence', else 1.",
    "zero_mean": "zero_mean: whether the n weights of every filter, those that one output sums over, cancel exactly:\n"
    "    they come in random pairs w, -w, and of an odd number one is 0, for which the others' scale and bounds\n"
    "    are sqrt(n / (n - 1)) times as large. Needs values symmetric about 0, and n > 1. A filter of zero mean\n"
    "    does not see the mean of its inputs: behind a ReLU textbook scales are too small by a factor of\n"
    "    1 - 1 / pi, so that deep ReLU networks want 2 / (1 - 1 / pi) = 2.93 in place of He's 2, with which a\n"
    "    gradient grows by 1.47 a layer.",
    "scramble": "scramble: 'owen', 'linear', 'shift' or, for 'sequence', 'shuffled' and 'points', None.",
}


def documented(
    source: str, summary: str, *, range: str, call: str = "", scale: str = "", orthogonal: bool = False
) -> Callable[[F], F]:
    """Gives a builder its docstring; the arguments are those of its signature."""

    def decorate(builder: F) -> F:
        names = builder.__code__.co_varnames[: _count(builder)]
        guarantee, reference = SOURCES[source]
        if orthogonal:
            guarantee = (
                "The factor of a Gaussian matrix, whose QR factorization is the platform's own; see `normal_"
                + source
                + "`."
            )
            reference = "Saxe, McClelland, Ganguli 2014, arXiv 1312.6120; delta: Xiao et al. 2018, arXiv 1806.05393"
        builder.__doc__ = TEMPLATE.format(
            summary=summary,
            guarantee=guarantee,
            arguments="\n".join("  " + ARGUMENTS[name].format(scale=scale) for name in names),
            range=range,
            call=call or f"{builder.__name__}()",
            shape="(3, 3, 8, 16)" if "delta" in builder.__name__ else "(256, 128)",
            index="(1, 1, 5, 10)" if "delta" in builder.__name__ else "(5, 10)",
            reference=reference,
        )
        return built_first(builder)

    return decorate


def _count(builder: Callable[..., Any]) -> int:
    return builder.__code__.co_argcount + builder.__code__.co_kwonlyargcount
