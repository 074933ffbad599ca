"""Flax models of the transformers library, built from their configurations."""

from typing import Any

import jax
import numpy as np

from .model import Wild

VOCABULARY, BATCH, LENGTH = 384, 8, 24
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 128, "max_position_embeddings": 64}


class OlderNumpy:
    """jax.numpy with the argument `a_max` of `clip` that it had when T5 was written."""

    def __getattr__(self, name: str) -> Any:
        return getattr(jax.numpy, name)

    @staticmethod
    def clip(array, a_max):
        return jax.numpy.clip(array, max=a_max)


def linen(name: str, config: str, **settings: Any) -> Any:
    """The Linen module of one of the library's models."""

    def build():
        import transformers

        if name.startswith("T5"):
            from transformers.models.t5 import modeling_flax_t5

            modeling_flax_t5.jnp = OlderNumpy()
        return getattr(transformers, f"Flax{name}")(getattr(transformers, config)(**settings), _do_init=False).module

    return build


def ids(seed: int, length: int = LENGTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, VOCABULARY, (BATCH, length), np.int32)


def mask(seed: int, length: int = LENGTH) -> np.ndarray:
    """Rows of several lengths, filled up on the right."""
    lengths = np.random.default_rng(seed).integers(length // 2, length + 1, (BATCH, 1))
    return (np.arange(length)[None] < lengths).astype(np.int32)


def places(length: int = LENGTH) -> np.ndarray:
    return np.tile(np.arange(length, dtype=np.int32), (BATCH, 1))


def bert(seed: int):
    return ids(seed), mask(seed), np.zeros((BATCH, LENGTH), np.int32), places()


def decoder(seed: int):
    return ids(seed), mask(seed), places()


def translation(seed: int):
    return ids(seed), mask(seed), ids(seed + 1, 16), mask(seed + 1, 16)


def bart(seed: int):
    return *translation(seed), places(), places(16)


def sound(seed: int):
    return (
        np.random.default_rng(seed).standard_normal((BATCH, 80, 48), np.float32),
        ids(seed, 12),
        mask(seed, 12),
        places(12),
    )


def wave(seed: int):
    return np.random.default_rng(seed).standard_normal((2, 4000), np.float32), np.ones((2, 4000), np.int32)


def pictures(seed: int):
    return (np.random.default_rng(seed).standard_normal((BATCH, 32, 32, 3), np.float32),)


CALM = {"head_mask": None}
STILL = {"deterministic": True}
T5 = {"vocab_size": VOCABULARY, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
SEQ2SEQ = {"vocab_size": VOCABULARY, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 128}
SEQ2SEQ |= {"decoder_ffn_dim": 128, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
WHISPER = SEQ2SEQ | {"num_mel_bins": 80, "max_source_positions": 24, "max_target_positions": 32, "pad_token_id": 0}
WHISPER |= {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
GPT2 = {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4}
WAV = SIZES | {
    "conv_dim": (64, 64, 64),
    "conv_stride": (5, 4, 4),
    "conv_kernel": (10, 3, 3),
    "num_feat_extract_layers": 3,
}
WAV |= {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "num_conv_pos_embeddings": 16}
WAV |= {"num_conv_pos_embedding_groups": 4}
LLAMA = SIZES | {"num_key_value_heads": 2}
VIT = {k: v for k, v in SIZES.items() if k not in ("vocab_size", "max_position_embeddings")}
VIT |= {"image_size": 32, "patch_size": 8}
RESNET = {"embedding_size": 32, "hidden_sizes": [32, 64, 128, 256], "depths": [1, 2, 1, 1], "layer_type": "basic"}


def entry(name, model, config, settings, inputs, **kwargs):
    return Wild(name, linen(model, config, **settings), inputs, kwargs, package="transformers")


MODELS = [
    entry("bert_classifier", "BertForSequenceClassification", "BertConfig", SIZES | {"num_labels": 64}, bert, **CALM),
    entry("bert_masked", "BertForMaskedLM", "BertConfig", SIZES, bert, **CALM),
    entry("gpt2", "GPT2LMHeadModel", "GPT2Config", GPT2, decoder),
    entry("t5", "T5ForConditionalGeneration", "T5Config", T5, translation),
    entry(
        "t5_v1_1",
        "T5ForConditionalGeneration",
        "T5Config",
        T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        translation,
    ),
    entry("whisper", "WhisperForConditionalGeneration", "WhisperConfig", WHISPER, sound),
    entry("wav2vec2", "Wav2Vec2Model", "Wav2Vec2Config", WAV, wave),
    entry("bart", "BartForConditionalGeneration", "BartConfig", SEQ2SEQ | {"max_position_embeddings": 64}, bart),
    entry(
        "roberta",
        "RobertaForSequenceClassification",
        "RobertaConfig",
        SIZES | {"num_labels": 64, "pad_token_id": 1},
        bert,
        **CALM,
    ),
    entry("electra", "ElectraForMaskedLM", "ElectraConfig", SIZES | {"embedding_size": 32}, bert, **CALM),
    entry("llama", "LlamaForCausalLM", "LlamaConfig", LLAMA, decoder),
    entry("gemma", "GemmaForCausalLM", "GemmaConfig", LLAMA | {"head_dim": 16}, decoder),
    entry(
        "gpt_neo",
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "max_position_embeddings": 64,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
        },
        decoder,
    ),
    entry("gptj", "GPTJForCausalLM", "GPTJConfig", GPT2 | {"rotary_dim": 8}, decoder),
    entry(
        "opt",
        "OPTForCausalLM",
        "OPTConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 128,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 64,
        },
        decoder,
    ),
    entry(
        "bloom",
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 4},
        lambda s: decoder(s)[:2],
    ),
    entry("vit_flax", "ViTForImageClassification", "ViTConfig", VIT | {"num_labels": 64}, pictures),
    entry("beit", "BeitForImageClassification", "BeitConfig", VIT | {"num_labels": 64, "vocab_size": 32}, pictures),
    entry("dinov2", "Dinov2ForImageClassification", "Dinov2Config", VIT | {"num_labels": 64}, pictures),
    entry("resnet_flax", "ResNetForImageClassification", "ResNetConfig", RESNET | {"num_labels": 64}, pictures),
    entry(
        "regnet",
        "RegNetForImageClassification",
        "RegNetConfig",
        {
            "embedding_size": 32,
            "hidden_sizes": [32, 64, 64, 128],
            "depths": [1, 1, 1, 1],
            "groups_width": 16,
            "num_labels": 64,
        },
        pictures,
    ),
]
