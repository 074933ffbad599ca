"""FlowJAX's normalizing flows, from data to noise, and the differential equations of diffrax's documentation."""

import functools

import jax
import jax.numpy as jnp

from .model import Wild, equinox_pair, normal

DIM = 8


def flow(name: str, **settings):
    """The noise that a flow makes of data."""
    import flowjax.distributions
    import flowjax.flows
    import paramax

    def make(key):
        base = flowjax.distributions.Normal(jnp.zeros(DIM))
        return getattr(flowjax.flows, name)(key, base_dist=base, **settings)

    def call(distribution, x):
        bijection = paramax.unwrap(distribution).bijection
        return jax.vmap(bijection.inverse)(x)

    return equinox_pair(make, call)


def ode(solver: str, steps: int = 10):
    """The state at the end of a neural differential equation."""
    import diffrax
    import equinox as eqx

    def call(model, x):
        def one(start):
            return diffrax.diffeqsolve(
                diffrax.ODETerm(lambda _time, y, _args: model(y)), getattr(diffrax, solver)(), 0.0, 1.0,
                1.0 / steps, start, saveat=diffrax.SaveAt(t1=True), max_steps=64,
            ).ys[0]  # fmt: skip

        return jax.vmap(one)(x)

    def make(key):
        return eqx.nn.MLP(16, 16, 64, 2, activation=jax.nn.softplus, final_activation=jnp.tanh, key=key)

    return equinox_pair(make, call)


entry = functools.partial(Wild, package="flowjax")
solved = functools.partial(Wild, package="diffrax")
MODELS = [
    entry(
        "flow_masked",
        functools.partial(flow, "masked_autoregressive_flow", flow_layers=2, nn_width=32),
        normal(64, DIM),
    ),
    entry("flow_coupling", functools.partial(flow, "coupling_flow", flow_layers=2, nn_width=32), normal(64, DIM)),
    entry(
        "flow_planar",
        functools.partial(flow, "planar_flow", flow_layers=2, invert=True, negative_slope=0.1),
        normal(64, DIM),
    ),
    solved("ode_euler", functools.partial(ode, "Euler"), normal(32, 16)),
]
