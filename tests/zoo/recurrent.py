"""Bidirectional recurrent classifiers of token sequences."""

from functools import partial

from flax import linen as nn

from .network import Network, tokens


class Recurrent(nn.Module):
    """Embedding, recurrence in both directions, mean over time, linear head."""

    cell: type[nn.RNNCellBase]
    vocabulary: int = 512
    width: int = 128
    classes: int = 10

    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(self.vocabulary, self.width)(ids)
        x = nn.Bidirectional(nn.RNN(self.cell(self.width)), nn.RNN(self.cell(self.width)))(x)
        return nn.Dense(self.classes)(x.mean(1))


# One weight is used at every step, so its output depends on how often it has been applied: the state grows from zero
# towards a fixed point, and the states of neighbouring steps correlate, which the mean over time feels.
CELLS = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "rnn": nn.SimpleCell}
NETWORKS = [
    Network(name, partial(Recurrent, cell), partial(tokens, batch=16, length=32)) for name, cell in CELLS.items()
]
