"""Tiny random base models on disk, described as the model loader describes real ones."""

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, Qwen2Config

from service.base import BaseDescription, SiteDescription, TensorLocation

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


@dataclass(frozen=True)
class TinyBase:
    model: PreTrainedModel
    folder: Path
    description: BaseDescription

    def fresh_model(self) -> PreTrainedModel:
        """peft changes the model that it is given."""
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)


def make_base(
    folder: Path, architecture: str = "llama", *, is_tied: bool = False, dtype: str = "float32"
) -> TinyBase:
    torch.manual_seed(0)
    configs: dict[str, Any] = {"llama": LlamaConfig, "qwen2": Qwen2Config}
    config = configs[architecture](**SIZES, tie_word_embeddings=is_tied)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    model = model.float().eval()
    return TinyBase(model, folder, describe(model, folder))


def describe(model: PreTrainedModel, folder: Path, dtype: str = "float32") -> BaseDescription:
    file = folder / "model.safetensors"
    places = locations(file)
    sites = tuple(
        _site(path, module, places, is_tied=model.config.tie_word_embeddings)
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear)
    )
    return BaseDescription(
        name="tiny-base",
        folder=str(folder),
        fingerprint=hashlib.sha256(file.read_bytes()).hexdigest(),
        architecture=type(model).__name__,
        dtype=dtype,
        vocab_size=model.config.vocab_size,
        max_model_len=128,
        lane="ragged",
        kv_layers=(),
        output_module="lm_head",
        sites=sites,
        modules=tuple((path, type(module).__name__) for path, module in model.named_modules()),
    )


def locations(file: Path) -> dict[str, TensorLocation]:
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {
        name: TensorLocation(
            file=str(file),
            dtype=entry["dtype"],
            shape=tuple(entry["shape"]),
            offset=8 + length + entry["data_offsets"][0],
            num_bytes=entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
    }


def _site(
    path: str, module: nn.Linear, places: dict[str, TensorLocation], *, is_tied: bool
) -> SiteDescription:
    weight = f"{path}.weight"
    if path == "lm_head" and is_tied:
        weight = "model.embed_tokens.weight"
    return SiteDescription(
        kind="linear",
        path=path,
        in_features=module.in_features,
        out_features=module.out_features,
        rows="wanted" if path == "lm_head" else "all",
        weight=places.get(weight),
        bias=places.get(f"{path}.bias"),
        has_bias=module.bias is not None,
    )
