"""The effective rank, against its definition by singular values."""

import numpy as np
import pytest

import qrjax


def by_definition(matrix):
    squares = np.linalg.svd(matrix.reshape(-1, matrix.shape[-1]), compute_uv=False) ** 2
    shares = squares[squares > 0] / squares.sum()
    return np.exp(-(shares * np.log(shares)).sum())


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (1, 9), (9, 1), (3, 3, 4, 8), (64, 64)])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_is_that_of_the_singular_values(shape, scale):
    rng = np.random.default_rng(0)
    real = scale * rng.normal(size=shape)
    assert qrjax.effective_rank(real) == pytest.approx(by_definition(real / scale), rel=1e-9)
    both = real + 1j * scale * rng.normal(size=shape)
    assert qrjax.effective_rank(both) == pytest.approx(by_definition(both / scale), rel=1e-9)


def test_counts_equal_directions():
    for rank in (1, 3, 8):
        orthogonal = np.linalg.qr(np.random.default_rng(rank).normal(size=(12, rank)))[0]
        assert qrjax.effective_rank(orthogonal @ orthogonal.T) == pytest.approx(rank, rel=1e-9)


def test_of_zeros_and_of_low_precision():
    assert qrjax.effective_rank(np.zeros((4, 4))) == 0
    assert qrjax.effective_rank(np.eye(6, dtype=np.float16)) == pytest.approx(6)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.ones(3), r"`weights` must have two axes or more and elements, got the shape \(3,\)"),
        (np.ones((0, 3)), r"got the shape \(0, 3\)"),
        (np.array([[1.0, np.nan]]), "`weights` holds NaN or infinity"),
    ],
)
def test_errors(weights, said):
    with pytest.raises(ValueError, match=said):
        qrjax.effective_rank(weights)
