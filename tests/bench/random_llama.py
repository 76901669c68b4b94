"""A base that is large enough for a step to cost something, and LoRAs of a usual share of it."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from tests.contract.architectures import VOCABULARY, save_base


@dataclass(frozen=True, slots=True)
class Size:
    hidden: int
    layers: int
    rank: int

    @property
    def inner(self) -> int:
        return self.hidden * 11 // 4

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(in, out) by path within a layer."""
        hidden, inner, kv = self.hidden, self.inner, self.hidden // 2
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
        return self.layers * sum(one * other for one, other in self.linears.values())

    @property
    def num_adapter_weights(self) -> int:
        return self.layers * self.rank * sum(map(sum, self.linears.values()))


STANDARD = Size(hidden=512, layers=8, rank=4)
"""An adapter has 1.3 % of the base's weights; rank 16 on a model of 7 billion has 0.6 %."""
QUICK = Size(hidden=64, layers=2, rank=2)


def make_base(size: Size, folder: Path) -> Path:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
    )
    return save_base(config, folder)


def make_adapter(size: Size, folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(size.layers):
        for path, (num_in, num_out) in size.linears.items():
            name = f"base_model.model.model.layers.{layer}.{path}"
            a = torch.randn(size.rank, num_in, generator=draw)
            b = torch.randn(num_out, size.rank, generator=draw)
            tensors[f"{name}.lora_A.weight"] = a / num_in**0.5
            tensors[f"{name}.lora_B.weight"] = 0.1 * b
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": size.rank,
        "lora_alpha": 2 * size.rank,
        "target_modules": [path.split(".")[1] for path in size.linears],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
