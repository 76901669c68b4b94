"""The same architecture, small: layer patterns, norms, biases and scalings stay.

Windows, rotary thresholds and soft caps shrink too, so that short prompts reach them.
"""

import copy
from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedConfig

VOCABULARY = 128
WINDOW = 5
THRESHOLD = 8
"""Positions up to which a rotary embedding that depends on length takes a sequence for short."""
_HEADS = 4
_HEAD_DIM = 16
_HIDDEN = _HEADS * _HEAD_DIM

_WIDTHS = {
    "hidden_size": _HIDDEN,
    "num_attention_heads": _HEADS,
    "head_dim": _HEAD_DIM,
    "intermediate_size": 96,
    "ffn_hidden_size": 96,
    "ffn_dim": 96,
    "n_inner": 96,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "rotary_dim": _HEAD_DIM // 2,
    "word_embed_proj_dim": _HIDDEN,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": _HEAD_DIM,
    "qk_nope_head_dim": _HEAD_DIM,
    "qk_head_dim": 2 * _HEAD_DIM,
    "v_head_dim": _HEAD_DIM,
    "linear_num_heads": _HEADS,
    "linear_head_dim": _HEAD_DIM,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": _HEADS,
    "linear_key_head_dim": _HEAD_DIM,
    "linear_value_head_dim": _HEAD_DIM,
    "mamba_dt_rank": 4,
    "time_step_rank": 4,
}
_STATE_HEADS = (
    ("num_heads", "head_dim"),
    ("mamba_n_heads", "mamba_d_head"),
    ("n_mamba_heads", "mamba_headdim"),
    ("mamba_num_heads", "mamba_head_dim"),
)
"""(heads, width of one) of state-space layers, whose product is a multiple of the hidden size"""
_WINDOWS = (
    "sliding_window",
    "window_size",
    "attention_chunk_size",
    "chunk_size",
    "mamba_chunk_size",
)
_LAYER_KINDS = ("layer_types", "layers_block_type", "attention_layers")


def small_configs(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """Smaller ones first: widths that a config does not say to depend on each other may, so that
    not every architecture can be built with all of them cut."""
    yield shrink(config)
    yield _cut_depth(config)


def shrink(config: PreTrainedConfig) -> PreTrainedConfig:
    small = _cut_depth(config)
    heads = getattr(small, "num_attention_heads", None) or _HEADS
    for name in ("num_key_value_heads", "num_kv_heads"):
        is_grouped = (getattr(small, name, None) or heads) < heads
        _set(small, name, 2 if is_grouped else _HEADS)
    for name, value in _WIDTHS.items():
        _set(small, name, value)
    _cut_states(small)
    for rope in _rope_dicts(small):
        for factors in {"short_factor", "long_factor"} & rope.keys():
            share = rope.get("partial_rotary_factor") or 1.0
            rope[factors] = rope[factors][: int(_HEAD_DIM * share) // 2]
    return small


def _cut_depth(config: PreTrainedConfig) -> PreTrainedConfig:
    """Layers, vocabulary and thresholds, but no widths."""
    small = copy.deepcopy(config.get_text_config())
    _set(small, "vocab_size", VOCABULARY)
    for name in _WINDOWS:
        _set(small, name, WINDOW)
    _set(small, "attn_logit_softcapping", 1.0)
    _cut_layers(small)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        _set(small, name, 1)
    _set(small, "original_max_position_embeddings", THRESHOLD)
    for rope in _rope_dicts(small):
        if "dynamic" in str(rope.get("rope_type")):
            small.max_position_embeddings = THRESHOLD
        if "original_max_position_embeddings" in rope:
            rope["original_max_position_embeddings"] = THRESHOLD
    return small


def _set(config: Any, name: str, value: Any) -> None:
    """Only what the config has, and only what is not computed from something else."""
    if getattr(config, name, None) is None:
        return
    try:
        setattr(config, name, value)
    except AttributeError:
        return


def _cut_states(config: Any) -> None:
    for expand in (getattr(config, name, None) for name in ("expand", "mamba_expand")):
        if not isinstance(expand, int):
            continue
        inner = _HIDDEN * expand
        _set(config, "mamba_d_ssm", inner)
        if hasattr(config, "state_size"):
            _set(config, "intermediate_size", inner)
        for heads, width in _STATE_HEADS:
            _set(config, heads, inner // _HEAD_DIM)
            _set(config, width, _HEAD_DIM)


def _cut_layers(config: Any) -> None:
    """Enough layers to meet every layer type once; lists with one entry per layer follow."""
    count = config.num_hidden_layers
    kinds = next((getattr(config, name, None) for name in _LAYER_KINDS if _has(config, name)), None)
    needed = max(kinds.index(kind) for kind in set(kinds)) + 1 if kinds else 2
    kept = min(count, max(2, needed))
    for name, value in vars(config).copy().items():
        if isinstance(value, list) and len(value) == count:
            setattr(config, name, value[:kept])
    config.num_hidden_layers = kept


def _has(config: Any, name: str) -> bool:
    return isinstance(getattr(config, name, None), list)


def _rope_dicts(config: Any) -> list[dict[str, Any]]:
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [value for value in rope.values() if isinstance(value, dict)]
    return nested or [rope]
