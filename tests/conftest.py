"""Strict JAX for every test: no implicit promotion of dtypes or ranks."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="session")
def strict():
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
