"""Flax models of the transformers library, built from their configurations."""

import functools
from typing import Any

import jax
import numpy as np

from .model import Wild

VOCABULARY, CLASSES, BATCH, LENGTH = 384, 64, 8, 24
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


def masked(seed: int):
    return ids(seed), mask(seed)


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


def long_text(seed: int):
    return ids(seed, 80), np.ones((BATCH, 80), np.int32), np.zeros((BATCH, 80), np.int32), places(80)


def captioned(seed: int):
    return ids(seed), pictures(seed)[0], mask(seed), places()


def pictures(seed: int):
    return (np.random.default_rng(seed).standard_normal((BATCH, 32, 32, 3), np.float32),)


SEQUENCE = {"vocab_size": VOCABULARY, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 128}
SEQUENCE |= {"decoder_ffn_dim": 128, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
DECODER = {"vocab_size": VOCABULARY, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 64}
T5 = {"vocab_size": VOCABULARY, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
GATED = T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
BART = SEQUENCE | {"max_position_embeddings": 64}
WHISPER = SEQUENCE | {"num_mel_bins": 80, "max_source_positions": 24, "max_target_positions": 32, "pad_token_id": 0}
WHISPER |= {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
GPT2 = {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4}
GPT_NEO = DECODER | {"attention_types": [[["global", "local"], 1]], "window_size": 8}
OPT = {k: v for k, v in SIZES.items() if k != "intermediate_size"} | {"ffn_dim": 128, "word_embed_proj_dim": 64}
BLOOM = {"vocab_size": VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 4}
WAV = SIZES | {"conv_dim": (64,) * 3, "conv_stride": (5, 4, 4), "conv_kernel": (10, 3, 3), "num_feat_extract_layers": 3}
WAV |= {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "num_conv_pos_embeddings": 16}
WAV |= {"num_conv_pos_embedding_groups": 4}
LLAMA = SIZES | {"num_key_value_heads": 2}
GEMMA = LLAMA | {"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh"}
VIT = {k: v for k, v in SIZES.items() if k not in ("vocab_size", "max_position_embeddings")}
VIT |= {"image_size": 32, "patch_size": 8, "num_labels": CLASSES}
ALBERT = SIZES | {"embedding_size": 32, "num_labels": CLASSES}
DISTIL = {"vocab_size": VOCABULARY, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "num_labels": CLASSES}
BIG_BIRD = SIZES | {"num_labels": CLASSES, "block_size": 4, "num_random_blocks": 1, "max_position_embeddings": 128}
TOWER = {k: SIZES[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")}
CLIP = {"text_config": TOWER | {"vocab_size": VOCABULARY, "max_position_embeddings": 32, "eos_token_id": 2}}
CLIP |= {"vision_config": TOWER | {"image_size": 32, "patch_size": 8}, "projection_dim": 64}
XGLM = {"vocab_size": VOCABULARY, "d_model": 64, "ffn_dim": 128, "num_layers": 2, "attention_heads": 4}
RESNET = {"embedding_size": 32, "hidden_sizes": [32, 64, 128, 256], "depths": [1, 2, 1, 1], "layer_type": "basic"}
RESNET |= {"num_labels": CLASSES}
REGNET = {"embedding_size": 32, "hidden_sizes": [32, 64, 64, 128], "depths": [1] * 4, "groups_width": 16}
REGNET |= {"num_labels": CLASSES}


def entry(name, model, config, settings, inputs, **kwargs):
    return Wild(name, linen(model, f"{config}Config", **settings), inputs, kwargs, package="transformers")


classifier = functools.partial(entry, inputs=bert, head_mask=None)
pictured = functools.partial(entry, inputs=pictures)
causal = functools.partial(entry, inputs=decoder)
MODELS = [
    classifier("bert_classifier", "BertForSequenceClassification", "Bert", SIZES | {"num_labels": CLASSES}),
    classifier("bert_masked", "BertForMaskedLM", "Bert", SIZES),
    classifier("roberta", "RobertaForSequenceClassification", "Roberta", SIZES | {"num_labels": CLASSES}),
    classifier("roberta_prenorm", "RobertaPreLayerNormForMaskedLM", "RobertaPreLayerNorm", SIZES),
    classifier("electra", "ElectraForMaskedLM", "Electra", SIZES | {"embedding_size": 32}),
    entry("albert", "AlbertForSequenceClassification", "Albert", ALBERT, bert),
    entry("distilbert", "DistilBertForSequenceClassification", "DistilBert", DISTIL, masked),
    entry("big_bird", "BigBirdForSequenceClassification", "BigBird", BIG_BIRD, long_text, head_mask=None),
    causal("gpt2", "GPT2LMHeadModel", "GPT2", GPT2),
    causal("gpt_neo", "GPTNeoForCausalLM", "GPTNeo", GPT_NEO),
    causal("gptj", "GPTJForCausalLM", "GPTJ", GPT2 | {"rotary_dim": 8}),
    causal("llama", "LlamaForCausalLM", "Llama", LLAMA),
    causal("gemma", "GemmaForCausalLM", "Gemma", GEMMA),
    causal("mistral", "MistralForCausalLM", "Mistral", LLAMA | {"sliding_window": 8}),
    causal("opt", "OPTForCausalLM", "OPT", OPT),
    causal("xglm", "XGLMForCausalLM", "XGLM", XGLM | {"max_position_embeddings": 64}),
    entry("bloom", "BloomForCausalLM", "Bloom", BLOOM, masked),
    entry("t5", "T5ForConditionalGeneration", "T5", T5, translation),
    entry("t5_gated", "T5ForConditionalGeneration", "T5", GATED, translation),
    entry("bart", "BartForConditionalGeneration", "Bart", BART, bart),
    entry("whisper", "WhisperForConditionalGeneration", "Whisper", WHISPER, sound),
    entry("wav2vec2", "Wav2Vec2Model", "Wav2Vec2", WAV, wave),
    entry("clip", "CLIPModel", "CLIP", CLIP, captioned),
    pictured("vit_flax", "ViTForImageClassification", "ViT", VIT),
    pictured("beit", "BeitForImageClassification", "Beit", VIT | {"vocab_size": 32}),
    pictured("dinov2", "Dinov2ForImageClassification", "Dinov2", VIT),
    # As they are trained: a batch's own statistics.
    pictured("resnet_flax", "ResNetForImageClassification", "ResNet", RESNET, deterministic=False),
    pictured("regnet", "RegNetForImageClassification", "RegNet", REGNET, deterministic=False),
]
