"""Fits the polynomials of `qrjax/_values/_coefficients.py` and prints that file.

    python tests/recipes/fit_quantiles.py > qrjax/_values/_coefficients.py

Every polynomial has non-negative coefficients in a variable that runs over [0, 1), so that it can be
evaluated in unsigned fixed point by Horner's rule, without a sign and without an overflow. The
functions allow it: away from its constant term each is absolutely monotone in the variable chosen.
Needs SciPy; the output is committed, so nobody needs to run this to use the package.
"""

import numpy as np
from scipy import optimize, special

HEADER = '''"""Coefficients of the fixed-point polynomials; written by tests/recipes/fit_quantiles.py.

Each row is one polynomial, highest power first, as unsigned integers. Do not edit by hand: the
recipe states the functions, the pieces and the scales, and the tests check the values against float64.
"""
'''


def nonnegative_fit(function, width, degree):
    """Coefficients c_0..c_degree >= 0 of a polynomial near `function` on [0, width]."""
    nodes = (1 - np.cos(np.pi * (np.arange(400) + 0.5) / 400)) / 2 * width
    powers = nodes[:, None] ** np.arange(degree + 1)
    # Chebyshev nodes make least squares nearly minimax; NNLS keeps the signs.
    return optimize.nnls(powers, function(nodes), maxiter=10_000)[0]


def rows(pieces, degree, bits):
    """One row of integers a piece, highest power first, scaled by 2**bits; prints the error."""
    result = []
    for function, width in pieces:
        coefficients = nonnegative_fit(function, width, degree)
        dense = np.linspace(0, width, 5001)
        error = np.abs(np.polynomial.polynomial.polyval(dense, coefficients) - function(dense)).max()
        integers = [round(float(c) * 2**bits) for c in coefficients[::-1]]
        largest = sum(c * width**k for k, c in enumerate(integers[::-1]))
        assert largest < 2**32, (largest / 2**32, "overflows 32 bits")
        result.append((integers, error))
    return result


def quantile_over_v(mass):
    """t -> z / v for v = sqrt(t), where z has the two-sided probability v * mass."""

    def function(t):
        v = np.sqrt(np.maximum(t, 1e-18))
        return -special.ndtri(0.5 - v * mass / 2) / v

    return function


def shifted(function, start, width):
    return lambda x: function(start + width * x)


def tail(octave):
    """x -> drop of z below its value at 2 * octave, for -log2(2 p) = octave * (2 - x)."""

    def z(y):
        return -special.ndtri_exp(-(y + 1) * np.log(2.0))

    return lambda x: z(2.0 * octave) - z(octave * (2 - x)), z(2.0 * octave)


def over_x(function):
    """function(x) / x, continued to 0; the drop has no constant term, and must not get one."""
    return lambda x: function(np.maximum(x, 1e-7)) / np.maximum(x, 1e-7)


def emit(name, comment, table):
    print(f"\n# {comment}")
    print(f"# largest error of a row, before rounding: {max(e for _, e in table):.1e}")
    print(f"{name} = (")
    for integers, _ in table:
        text = ", ".join(f"0x{i:08X}" for i in integers)
        print(f"    ({text}),")
    print(")")


def main():
    print(HEADER, end="")
    pieces = [(0.0, 0.5), (0.5, 0.25), (0.75, 0.125), (0.875, 0.0625), (0.9375, 0.0625)]
    truncated = quantile_over_v(special.erf(np.sqrt(2)))
    emit(
        "TRUNCATED",
        "z / v for |z| < 2, in 2**-30; the pieces of v**2 end at 1/2, 3/4, 7/8, 15/16, 1",
        rows([(shifted(truncated, a, w), 1.0) for a, w in pieces], 7, 30),
    )
    normal = quantile_over_v(1.0)
    emit(
        "NORMAL_CENTRE",
        "z / v for v < 15/16, in 2**-28; the pieces of v**2 end at 1/2, 3/4, 1",
        rows(
            [(shifted(normal, 0, 0.5), 1.0), (shifted(normal, 0.5, 0.25), 1.0), (shifted(normal, 0.75, 0.25), 0.52)],
            8,
            28,
        ),
    )
    tails = [tail(octave) for octave in (4, 8, 16, 32)]
    emit(
        "NORMAL_TAIL",
        "(NORMAL_TAIL_TOP - z) / x at -log2(2 p) = octave * (2 - x), in 2**-28; octaves 4, 8, 16, 32",
        rows([(over_x(drop), 1.0) for drop, _ in tails], 7, 28),
    )
    print("NORMAL_TAIL_TOP = (" + ", ".join(f"0x{round(top * 2**28):08X}" for _, top in tails) + ")")
    log2 = lambda s: -np.log1p(-np.maximum(s, 1e-9)) / np.log(2) / np.maximum(s, 1e-9)
    emit(
        "LOG2",
        "-log2(1 - s) / s in 2**-30; the pieces of s end at 1/4, 1/2",
        rows([(shifted(log2, a, 0.25), 1.0) for a in (0.0, 0.25)], 6, 30),
    )
    emit(
        "SQRT",
        "(1 - sqrt(1 - s)) / s for s in [0, 1/2], in 2**-31",
        rows([(lambda s: 1 / (1 + np.sqrt(1 - s)), 0.5)], 8, 31),
    )
    emit(
        "COSINE",
        "cos(pi / 2 * sqrt(1 - s)) for s in [0, 1], in 2**-31",
        rows([(lambda s: np.cos(np.pi / 2 * np.sqrt(1 - s)), 1.0)], 6, 31),
    )
    emit(
        "SINE",
        "sin(pi / 2 * x) / x, x = sqrt(1 - s), for s in [0, 1], in 2**-31",
        rows([(lambda s: np.pi / 2 * np.sinc(np.sqrt(1 - s) / 2), 1.0)], 6, 31),
    )


if __name__ == "__main__":
    main()
