"""Packs the Joe-Kuo D(6) direction numbers into `qrjax/_sequences/joe_kuo_d6.npy`.

    python tests/recipes/pack_directions.py

Source: S. Joe and F. Y. Kuo, file new-joe-kuo-6.21201 (primitive polynomials and initial direction
numbers of 21,201 dimensions), read from the copy that SciPy ships. Layout of a row of six uint32
words: the polynomial over GF(2) with all its coefficients, degree s; then (m_k - 1) / 2 for k = 1..s
(m_k is odd and below 2**k, so this takes k - 1 bits), packed without gaps from bit 0 of word 1 upward.
"""

import hashlib
import pathlib

import numpy as np
import scipy.stats

OUT = pathlib.Path(__file__).parents[2] / "qrjax" / "_sequences" / "joe_kuo_d6.npy"


def pack(polynomial: int, initial: list[int]) -> list[int]:
    bits, position = 0, 0
    for k in range(1, polynomial.bit_length()):
        bits |= (initial[k - 1] - 1) // 2 << position
        position += k - 1
    return [polynomial, *(bits >> 32 * i & 0xFFFFFFFF for i in range(5))]


def main():
    source = np.load(pathlib.Path(scipy.stats.__file__).parent / "_sobol_direction_numbers.npz")
    rows = [pack(int(p), [int(m) for m in v]) for p, v in zip(source["poly"], source["vinit"], strict=True)]
    np.save(OUT, np.array(rows, np.uint32))
    print(len(rows), "dimensions,", OUT.stat().st_size, "bytes, SHA-256", hashlib.sha256(OUT.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
