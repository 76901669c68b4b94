"""A base that is large enough for a step to cost something, and LoRAs of a usual share of it."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from tests.contract.architectures import VOCABULARY, save_base


@dataclass(frozen=True, slots=True)
class Size:
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int = VOCABULARY
    max_positions: int = 1024

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(in, out) by path within a layer."""
        hidden, inner = self.hidden, self.inner
        kv = hidden // self.heads * self.kv_heads
        return {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (hidden, kv),
            "self_attn.v_proj": (hidden, kv),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (hidden, inner),
            "mlp.up_proj": (hidden, inner),
            "mlp.down_proj": (inner, hidden),
        }

    @property
    def num_weights(self) -> int:
        """Of the layers' linear modules."""
        return self.layers * sum(one * other for one, other in self.linears.values())

    @property
    def num_parameters(self) -> int:
        """Those, and embeddings, head and norms."""
        norms = (2 * self.layers + 1) * self.hidden
        return self.num_weights + 2 * self.vocabulary * self.hidden + norms

    def num_adapter_weights(self, rank: int) -> int:
        return self.layers * rank * sum(map(sum, self.linears.values()))

    def config(self) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=self.max_positions,
            tie_word_embeddings=False,
        )


STANDARD = Size(hidden=512, inner=1408, layers=8, heads=8, kv_heads=4)
"""An adapter of rank 4 has 1.3 % of its weights; rank 16 on a model of 7 billion has 0.6 %."""
QUICK = Size(hidden=64, inner=176, layers=2, heads=8, kv_heads=4)


def make_base(size: Size, folder: Path) -> Path:
    return save_base(size.config(), folder)


def make_adapter(
    size: Size,
    folder: Path,
    seed: int,
    rank: int,
    modules: Collection[str] = (),
    dtype: torch.dtype = torch.float32,
) -> Path:
    """On the `modules` of every layer, by default on all that are linear."""
    folder.mkdir(parents=True)
    draw = torch.Generator().manual_seed(seed)
    chosen = {
        path: shape
        for path, shape in size.linears.items()
        if not modules or path.split(".")[1] in modules
    }
    tensors = {}
    for layer in range(size.layers):
        for path, (num_in, num_out) in chosen.items():
            name = f"base_model.model.model.layers.{layer}.{path}"
            a = torch.randn(rank, num_in, generator=draw) / num_in**0.5
            b = torch.randn(num_out, rank, generator=draw) / 10
            tensors[f"{name}.lora_A.weight"] = a.to(dtype)
            tensors[f"{name}.lora_B.weight"] = b.to(dtype)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": [path.split(".")[1] for path in chosen],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
