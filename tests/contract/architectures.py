"""Tiny random bases of real architectures, saved as people have them: a folder on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    JambaConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    MptConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
)

from tests.contract.targets import (
    ATTENTION_ONLY,
    BLOOM,
    GPT2,
    GPT_NEOX,
    GPTJ,
    JAMBA,
    LLAMA,
    MAMBA,
    MPT,
    OPT,
    PHI3,
    Targets,
)

VOCABULARY = 128
WINDOW = 9
LONG = 24
"""Positions beyond which `phi3-longrope` takes a sequence for a long one."""
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
UNGROUPED = {name: size for name, size in SIZES.items() if name != "num_key_value_heads"}


@dataclass(frozen=True)
class Architecture:
    make_config: Callable[[], PreTrainedConfig]
    lane: str = "ragged"
    """That the self-test is expected to find."""
    targets: Targets = LLAMA


def _llama3() -> PreTrainedConfig:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    return LlamaConfig(**SIZES, tie_word_embeddings=True, rope_parameters=rope)


def _phi3_longrope() -> PreTrainedConfig:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 100.0,
        "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.4],
        "long_factor": [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        "original_max_position_embeddings": LONG,
    }
    return Phi3Config(**SIZES, original_max_position_embeddings=LONG, rope_parameters=rope)


def _gemma3() -> PreTrainedConfig:
    return Gemma3TextConfig(**SIZES | {"num_hidden_layers": 6}, head_dim=16, sliding_window=WINDOW)


def _jamba() -> PreTrainedConfig:
    """An attention layer between two state-space layers, one of which has experts."""
    return JambaConfig(
        **SIZES | {"num_hidden_layers": 3},
        attn_layer_period=3,
        attn_layer_offset=1,
        expert_layer_period=3,
        expert_layer_offset=2,
        num_experts=4,
        mamba_d_state=4,
        mamba_dt_rank=8,
        use_mamba_kernels=False,
    )


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(lambda: LlamaConfig(**SIZES, tie_word_embeddings=False)),
    "llama-tied": Architecture(lambda: LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "llama3": Architecture(_llama3),
    "mistral": Architecture(lambda: MistralConfig(**SIZES, sliding_window=WINDOW)),
    "qwen2": Architecture(lambda: Qwen2Config(**SIZES, tie_word_embeddings=False)),
    "qwen3": Architecture(lambda: Qwen3Config(**SIZES, head_dim=16)),
    "gemma": Architecture(lambda: GemmaConfig(**SIZES, head_dim=16)),
    "gemma2": Architecture(lambda: Gemma2Config(**SIZES, head_dim=16, sliding_window=WINDOW)),
    "gemma3": Architecture(_gemma3),
    "stablelm": Architecture(lambda: StableLmConfig(**SIZES, use_qkv_bias=True)),
    "mixtral": Architecture(
        lambda: MixtralConfig(**SIZES, num_local_experts=4),
        targets=ATTENTION_ONLY,
    ),
    "phi3": Architecture(
        lambda: Phi3Config(**SIZES, sliding_window=WINDOW),
        targets=PHI3,
    ),
    "phi3-longrope": Architecture(_phi3_longrope, targets=PHI3),
    "gpt2": Architecture(
        lambda: GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=64,
            n_layer=2,
            n_head=4,
            n_positions=128,
            bos_token_id=1,
            eos_token_id=2,
        ),
        targets=GPT2,
    ),
    "opt": Architecture(
        lambda: OPTConfig(**UNGROUPED, ffn_dim=96, word_embed_proj_dim=64),
        targets=OPT,
    ),
    "gpt-neox": Architecture(
        lambda: GPTNeoXConfig(**UNGROUPED),
        targets=GPT_NEOX,
    ),
    "bloom": Architecture(
        lambda: BloomConfig(
            vocab_size=VOCABULARY, hidden_size=64, n_layer=2, n_head=4, seq_length=128
        ),
        targets=BLOOM,
    ),
    "falcon": Architecture(
        lambda: FalconConfig(**UNGROUPED, ffn_hidden_size=96),
        lane="padded",
        targets=BLOOM,
    ),
    "falcon-alibi": Architecture(
        lambda: FalconConfig(
            **UNGROUPED, ffn_hidden_size=96, alibi=True, multi_query=False, bias=True
        ),
        lane="padded",
        targets=BLOOM,
    ),
    "mpt": Architecture(
        lambda: MptConfig(
            vocab_size=VOCABULARY, d_model=64, n_layers=2, n_heads=4, max_seq_len=128
        ),
        lane="padded",
        targets=MPT,
    ),
    "gptj": Architecture(
        lambda: GPTJConfig(
            vocab_size=VOCABULARY,
            n_embd=64,
            n_layer=2,
            n_head=4,
            rotary_dim=8,
            n_positions=128,
            bos_token_id=1,
            eos_token_id=2,
        ),
        lane="padded",
        targets=GPTJ,
    ),
    "mamba": Architecture(
        lambda: MambaConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            num_hidden_layers=2,
            state_size=4,
            time_step_rank=8,
            pad_token_id=0,
        ),
        lane="solo",
        targets=MAMBA,
    ),
    "jamba": Architecture(_jamba, lane="solo", targets=JAMBA),
}


def make_base(name: str, folder: Path) -> Path:
    return save_base(ARCHITECTURES[name].make_config(), folder)


def save_base(config: PreTrainedConfig, folder: Path) -> Path:
    """Weights large enough that attention, biases and windows all show in the logits."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.normal_(std=0.3)
            elif parameter.ndim > 1 and parameter.std() < 0.1:
                parameter.mul_(5.0)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def load_reference(folder: Path) -> PreTrainedModel:
    """transformers alone, float32. Where a model has one attention of its own it is the one that
    runs by default: Falcon's other one adds its ALiBi twice."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if model._can_set_attn_implementation():
        model.set_attn_implementation("eager")
    return model


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Spells token 17 as `t17`. No token is special, so that text shows every one of them."""
    vocabulary = {f"t{index}": index for index in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="t3"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
