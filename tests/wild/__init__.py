"""Public models that nobody here wrote, in small settings: what AutoInit must hold on.

Tests find it as `from wild import MODELS`. A model's library is imported where the model is built.
"""

from . import equinox_models, flax_models, flow_models, haiku_models, jraph_models, keras_models, transformers_models
from .model import Wild

__all__ = ["MODELS", "Wild"]

_LIBRARIES = (flax_models, transformers_models, equinox_models, haiku_models, keras_models, jraph_models, flow_models)
MODELS = {model.name: model for library in _LIBRARIES for model in library.MODELS}
