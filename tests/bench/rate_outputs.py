"""How large the outputs of trained networks are: what `outputs` of `qrjax.learning_rates` is to be.

    python tests/bench/rate_outputs.py [--markdown]

The MLP of `rates.py` with Flax's own weights, Adam, batches of 64, at the best of six rates that are factors of two
apart, one seed. The size is the root mean square of what the network returns for 512 training examples.
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from rates import BATCH, EVALUATED, MLP, data_of, loss_of
from sampling import Report, environment, show

RATES = range(-11, -5)
CASES = [
    (data, width, steps)
    for data in ("digits", "centred digits", "mnist1d", "regression")
    for width, steps in ((64, 60), (256, 60), (256, 300))
]


def trained(data: str, width: int, steps: int) -> tuple[float, float]:
    """The loss at the best rate and the size of the outputs there."""
    network, (x, y) = MLP(width), data_of(data)
    start, adam = network.init(jax.random.key(0), x[:1]), optax.scale_by_adam()

    def loss(params, rows):
        return loss_of(network.apply(params, x[rows]), y[rows])

    @jax.jit
    def run(rate):
        def step(carry, key):
            params, state = carry
            gradient = jax.grad(loss)(params, jax.random.randint(key, (BATCH,), 0, len(x)))
            updates, state = adam.update(gradient, state)
            return (jax.tree.map(lambda p, u: p - rate * u, params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (start, adam.init(start)), jax.random.split(jax.random.key(1), steps))
        outputs = network.apply(params, x[:EVALUATED])
        return loss_of(outputs, y[:EVALUATED]), jnp.sqrt((outputs**2).mean())

    return min(tuple(float(one) for one in run(2.0**rate)) for rate in RATES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's table")
    options = parser.parse_args()
    lines = []
    for data, width, steps in CASES:
        loss, size = trained(data, width, steps)
        lines.append([data, str(width), str(steps), f"{loss:.3f}", f"{size:.1f}"])
    columns = ("data", "width", "steps", "loss", "size of the outputs")
    show([Report("Outputs of trained networks", columns, lines)], environment(), options.markdown)


if __name__ == "__main__":
    main()
