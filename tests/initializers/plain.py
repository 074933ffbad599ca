"""SplitMix64, its hash of names, and keyed permutations in plain Python integers: nothing shared with the package."""

import math

MASK = 2**64 - 1


def output(state, counter):
    z = state + 0x9E3779B97F4A7C15 * (counter + 1) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def absorb(state, *words):
    for word in words:
        state = output(state, word)
    return state


def from_key(words):
    return absorb(words[0] << 32 | words[1], len(words), *words[2:])


def stream(words, path):
    """The words of the key that a stream draws from."""
    absorbed = [len(path)]
    for part in path:
        content = [1, part]
        if isinstance(part, str):
            data = part.encode()
            padded = data.ljust(-(-len(data) // 4) * 4, b"\0")
            content = [0, len(data), *memoryview(padded).cast("I").tolist()]
        absorbed += [len(content), *content]
    state = absorb(from_key(words), *absorbed)
    halves = [half for n in range(2) for half in (output(state, n) >> 32, output(state, n) & 0xFFFFFFFF)]
    return halves[: len(words)]


def permute(index, n, keys):
    """Rotates the columns and the rows of a ragged raster in turn."""
    width = math.isqrt(n) | 1
    row, column = divmod(index, width)
    for turn, key in enumerate(keys):
        if turn % 2 == 0:
            length = len(range(column, n, width))
            row = (row + (rotation(column, key) * length >> 32)) % length
        else:
            length = min(width, n - row * width)
            column = (column + (rotation(row, key) * length >> 32)) % length
    return row * width + column


def rotation(line, key):
    x = (line ^ key) * 0x9E3779B1 & 0xFFFFFFFF
    x ^= x >> 16
    return x * 0x85EBCA6B & 0xFFFFFFFF


def zero_mean(words, filter_coordinates, index, n):
    """The standardized uniform value of input `index` of a filter of n inputs."""
    state, coordinates = from_key(words), filter_coordinates
    order = absorb(state, 5, len(coordinates), *coordinates)
    keys = [half for k in range(3) for half in (output(order, k) >> 32, output(order, k) & 0xFFFFFFFF)][:5]
    pair, member = divmod(permute(index, n, keys), 2)
    if 2 * pair == n - 1:
        return 0.0
    word = absorb(state, 4, len(coordinates) + 1, *coordinates, pair) >> 32
    value = ((word + 0.5) / 2**31 - 1) * (math.sqrt(n / (n - 1)) if n % 2 else 1.0)
    return -value if member else value
