"""Temporaries of narrow parts: a few words for every row, which is much where a row is short."""

import jax
import pytest

import qrjax

ROWS = 4096
COLUMNS = (8, 32, 64, 100, 128)


def memory(init, columns):
    program = jax.jit(init, static_argnums=1).lower(jax.random.key(0), (ROWS, columns)).compile()
    return program.memory_analysis()


@pytest.mark.parametrize(
    ("init", "words"), [(qrjax.he_normal_qr(), 4), (qrjax.he_normal_hash(), 2)], ids=["qr", "hash"]
)
def test_temporaries_are_a_few_words_a_row(init, words):
    for columns in COLUMNS:
        found = memory(init, columns)
        assert found.output_size_in_bytes == 4 * ROWS * columns
        assert 0 <= found.temp_size_in_bytes - 4 * words * ROWS <= 64, columns


@pytest.mark.parametrize(("columns", "share"), [(8, 0.50), (64, 0.06)])
def test_the_default_layout_s_shares_of_short_rows(columns, share):
    found = memory(qrjax.he_normal_qr(), columns)
    assert found.temp_size_in_bytes / found.output_size_in_bytes == pytest.approx(share, abs=0.005)
