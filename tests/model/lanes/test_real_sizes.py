"""Configs in the sizes in which people have them: each is cut to a small one that transformers can
run, and goes to the lane that it belongs to. Values are those of the models named."""

from collections.abc import Callable

import pytest
from transformers import (
    BloomConfig,
    CodeGenConfig,
    DeepseekV3Config,
    FalconConfig,
    FalconH1Config,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    JambaConfig,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    MptConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
)

from service.model.lanes.self_test import choose_lane
from service.model.lanes.shrink import shrink

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
PHI3_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.05] * 48,
    "long_factor": [1.1 + 1.3 * index for index in range(48)],
    "original_max_position_embeddings": 4096,
}
OPT_350M = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "ffn_dim": 4096,
    "word_embed_proj_dim": 512,
    "do_layer_norm_before": False,
}
MAMBA_130M = {"hidden_size": 768, "num_hidden_layers": 24, "vocab_size": 50280}

REAL: dict[str, tuple[str, Callable[[], PreTrainedConfig]]] = {
    "llama-2-7b": ("ragged", LlamaConfig),
    "llama-3.1-8b": (
        "ragged",
        lambda: LlamaConfig(
            num_key_value_heads=8,
            intermediate_size=14336,
            vocab_size=128256,
            max_position_embeddings=131072,
            rope_parameters=dict(LLAMA3_ROPE),
        ),
    ),
    "mistral-7b": ("ragged", MistralConfig),
    "mixtral-8x7b": ("ragged", MixtralConfig),
    "qwen2-7b": ("ragged", lambda: Qwen2Config(hidden_size=3584, num_attention_heads=28)),
    "qwen3-8b": ("ragged", Qwen3Config),
    "gemma-7b": ("ragged", GemmaConfig),
    "gemma-2-9b": ("ragged", Gemma2Config),
    "gemma-3-4b": ("ragged", Gemma3TextConfig),
    "phi-3-mini-4k": ("ragged", lambda: Phi3Config(sliding_window=2047)),
    "phi-3-mini-128k": (
        "ragged",
        lambda: Phi3Config(
            max_position_embeddings=131072,
            original_max_position_embeddings=4096,
            rope_parameters=dict(PHI3_ROPE),
        ),
    ),
    "stablelm-3b": ("ragged", lambda: StableLmConfig(rope_parameters=None)),
    "stablelm-2-12b": ("ragged", lambda: StableLmConfig(qk_layernorm=True)),
    "gpt2": ("ragged", GPT2Config),
    "opt-350m": ("ragged", lambda: OPTConfig(**OPT_350M)),
    "gpt-neox-20b": ("ragged", GPTNeoXConfig),
    "bloom-560m": ("ragged", lambda: BloomConfig(hidden_size=1024, n_layer=24, n_head=16)),
    "falcon-7b": ("padded", FalconConfig),
    "falcon-40b": (
        "padded",
        lambda: FalconConfig(
            hidden_size=8192,
            num_attention_heads=128,
            num_kv_heads=8,
            new_decoder_architecture=True,
        ),
    ),
    "falcon-rw-1b": (
        "padded",
        lambda: FalconConfig(
            hidden_size=2048, num_attention_heads=32, alibi=True, multi_query=False, bias=True
        ),
    ),
    "mpt-7b": ("padded", lambda: MptConfig(d_model=4096, n_heads=32, n_layers=32)),
    "gpt-j-6b": ("padded", GPTJConfig),
    "gpt-neo-1.3b": ("padded", GPTNeoConfig),
    "codegen-350m": ("padded", CodeGenConfig),
    "deepseek-v3": ("ragged", DeepseekV3Config),
    "mamba-130m": ("solo", lambda: MambaConfig(**MAMBA_130M)),
    "mamba2-130m": (
        "solo",
        lambda: Mamba2Config(hidden_size=768, num_heads=24, head_dim=64, n_groups=1),
    ),
    "jamba-v0.1": ("solo", JambaConfig),
    "falcon-h1": ("solo", FalconH1Config),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sizes_go_to_their_lane(name: str) -> None:
    lane, make_config = REAL[name]
    choice = choose_lane(make_config())
    assert choice.name == lane
    assert [rejected for rejected, _ in choice.rejected][:2] == {
        "ragged": [],
        "padded": ["ragged"],
        "solo": ["ragged", "padded"],
    }[lane]


def test_what_is_cut_keeps_patterns_and_is_no_longer_the_callers() -> None:
    config = Gemma3TextConfig()
    small = shrink(config)
    assert small.layer_types == config.layer_types[:6]
    assert (small.num_hidden_layers, small.sliding_window) == (6, 5)
    assert len(set(small.layer_types)) == 2
    assert config.num_hidden_layers == 26
    assert config.sliding_window == 4096


def test_rotary_factors_are_as_many_as_the_small_head_has_angles() -> None:
    config = Phi3Config(original_max_position_embeddings=4096, rope_parameters=dict(PHI3_ROPE))
    rope = shrink(config).rope_parameters
    assert (len(rope["short_factor"]), len(rope["long_factor"])) == (8, 8)
    assert rope["original_max_position_embeddings"] < 17
