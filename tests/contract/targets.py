"""What an architecture calls the modules that adapters touch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Targets:
    attention: tuple[str, ...] = ("q_proj", "v_proj")
    """Linear modules that see the layer's input."""
    down: tuple[str, ...] = ("down_proj",)
    """The last linear module of a feed-forward block."""
    linears: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    """Last path parts of the linear modules that can carry adapters, without the head."""
    embedding: str = "embed_tokens"
    head: str = "lm_head"
    norms: tuple[str, ...] = ("input_layernorm", "norm")
    num_heads: int | None = None
    """Where peft does not find it in the base's config and has to be told."""

    @property
    def linear(self) -> list[str]:
        return [*self.attention, *self.down]


LLAMA = Targets()

ATTENTION_ONLY = Targets(down=("o_proj",), linears=("q_proj", "k_proj", "v_proj", "o_proj"))
"""Experts are one tensor each, which adapters of linear modules do not reach."""
PHI3 = Targets(attention=("qkv_proj",), linears=("qkv_proj", "o_proj", "gate_up_proj", "down_proj"))
GPT2 = Targets(
    attention=("c_attn",),
    down=("mlp.c_proj",),
    linears=("c_attn", "c_proj", "c_fc"),
    embedding="wte",
    norms=("ln_1", "ln_f"),
)
OPT = Targets(
    down=("fc2",),
    linears=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
    norms=("self_attn_layer_norm", "final_layer_norm"),
)
_FUSED = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
GPT_NEOX = Targets(
    attention=("query_key_value",),
    down=("dense_4h_to_h",),
    linears=_FUSED,
    embedding="embed_in",
    norms=("input_layernorm", "final_layer_norm"),
)
BLOOM = Targets(
    attention=("query_key_value",),
    down=("dense_4h_to_h",),
    linears=_FUSED,
    embedding="word_embeddings",
    norms=("input_layernorm", "ln_f"),
)
MPT = Targets(
    attention=("Wqkv",),
    linears=("Wqkv", "out_proj", "up_proj", "down_proj"),
    embedding="wte",
    norms=("norm_1", "norm_f"),
    num_heads=4,
)
GPTJ = Targets(
    down=("fc_out",),
    linears=("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"),
    embedding="wte",
    norms=("ln_1", "ln_f"),
)
MAMBA = Targets(
    attention=("in_proj",),
    down=("x_proj",),
    linears=("in_proj", "x_proj"),
    embedding="embeddings",
    norms=("norm", "norm_f"),
    num_heads=1,
)
JAMBA = Targets(
    down=("x_proj",),
    linears=("q_proj", "k_proj", "v_proj", "o_proj", "in_proj", "x_proj"),
    norms=("input_layernorm", "final_layernorm"),
)
