"""Brings the frozen base model and its tokenizer into memory."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)

from service.base import BaseDescription, LengthClasses, Quantization
from service.errors import ConfigurationError
from service.model.context import StepContext
from service.model.describe import config_value, describe, read_base_files
from service.model.fused.fuse import Fused, fuse
from service.model.kernels import Kernels
from service.model.kv_store import LayerShape
from service.model.lanes.build import prepare
from service.model.lanes.lane import LaneChoice
from service.model.lanes.self_test import choose_lane
from service.model.memory import PastCost
from service.model.native.library import load_native
from service.model.packing import pack_linears
from service.model.probe import probe
from service.model.sites import Site
from service.model.tokenizer import HFTokenizer
from service.model.triton.library import load_triton
from service.quantized.loading import load_quantized
from service.quantized.stored import resolve_quantization

_LENGTH_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
"""What configs call the number of positions that the base was made for."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    base_model: str
    """Folder or hub id."""
    revision: str | None = None
    served_model_name: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    max_model_len: int | None = None
    quantization: Quantization = "none"
    native_folder: Path | None = None
    """Where compiled kernels are kept; None = torch alone."""
    packs_weights: bool = False
    """Keep linear weights a second time, in the processor's fastest layout."""


@dataclass(frozen=True, slots=True)
class LoadedBase:
    """A base model whose modules are sites; never written after this."""

    model: PreTrainedModel
    tokenizer: HFTokenizer
    description: BaseDescription
    context: StepContext
    sites: tuple[Site, ...]
    lane: LaneChoice
    layers: dict[int, LayerShape]
    """What the blocks of a paged lane hold."""
    past_cost: PastCost
    length_classes: LengthClasses
    """Sequences of different classes share no keys and values."""
    fused: Fused


def load_base(options: LoadOptions) -> LoadedBase:
    """Raises `ConfigurationError` with a sentence when the base cannot be served."""
    folder = resolve_folder(options.base_model, options.revision)
    quantization = resolve_quantization(folder, options.quantization)
    config = _load_config(folder)
    lane = choose_lane(config)
    device = resolve_device(options.device)
    model = _load_model(folder, quantization, resolve_dtype(options.dtype, device), device)
    context = StepContext()
    if options.native_folder is not None:
        context.kernels = _load_kernels(options.native_folder, model.dtype, device)
    if options.packs_weights and device.type == "cpu":
        pack_linears(model, model.dtype, context.kernels.linear if context.kernels else None)
    length_classes = prepare(model, lane.name, context)
    fused = fuse(model, context.kernels.elementwise if context.kernels else None)
    found = probe(model, lane.name)
    max_model_len = _max_model_len(config, options.max_model_len)
    name = options.served_model_name or options.base_model.rstrip("/").rsplit("/", 1)[-1]
    files = read_base_files(folder)
    description = describe(name, model, files, lane.name, found, max_model_len, quantization)
    modules = dict(model.named_modules())
    sites = tuple(
        Site(site.path, modules[site.path], site.rows, context, site.kind)
        for site in description.sites
    )
    tokenizer = HFTokenizer(AutoTokenizer.from_pretrained(folder), _eos_token_ids(model))
    return LoadedBase(
        model,
        tokenizer,
        description,
        context,
        sites,
        lane,
        found.layers,
        found.past_cost,
        length_classes,
        fused,
    )


def resolve_folder(base_model: str, revision: str | None) -> Path:
    """The folder itself, or the hub's snapshot of it on disk."""
    if Path(base_model).is_dir():
        return Path(base_model).resolve()
    if base_model.startswith((".", "/", "~")):
        raise ConfigurationError(f"base_model: there is no folder {base_model!r}.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(base_model, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigurationError(
            f"base_model: {base_model!r} is neither a folder here nor can it be had from the hub "
            f"({type(error).__name__})."
        ) from error


def _load_kernels(folder: Path, dtype: torch.dtype, device: torch.device) -> Kernels | None:
    if device.type == "cuda":
        return load_triton(dtype, device)
    return load_native(folder, dtype, device)


def resolve_device(device: str) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("device: cuda was asked for, but torch sees no CUDA device.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` follows the instruction set, never a timing: equal replicas serve equal numbers."""
    if dtype != "auto":
        resolved: torch.dtype = getattr(torch, dtype)
        return resolved
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if _has_bf16_hardware() else torch.float32


def _has_bf16_hardware() -> bool:
    flags = Path("/proc/cpuinfo")
    words = set(flags.read_text().split()) if flags.exists() else set()
    return bool(words & {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"})


def _load_config(folder: Path) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"base_model: its config cannot be read ({error}).") from error
    return config


def _load_model(
    folder: Path, quantization: Quantization, dtype: torch.dtype, device: torch.device
) -> PreTrainedModel:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        if quantization != "none":
            return load_quantized(folder, quantization, dtype, device)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, ImportError) as error:
        raise ConfigurationError(f"base_model: cannot be loaded ({error}).") from error
    frozen: PreTrainedModel = model.requires_grad_(False).train(False)
    torch.nn.Module.to(frozen, device)
    return frozen


def _max_model_len(config: PreTrainedConfig, asked: int | None) -> int:
    longest = int(config_value(config, *_LENGTH_NAMES) or 2048)
    if asked is not None and asked > longest * _stretch(config):
        raise ConfigurationError(
            f"max_model_len: {asked} is more than the {longest} positions of the base."
        )
    return asked or longest


def _stretch(config: PreTrainedConfig) -> float:
    """How many times its own length a base can take, which `dynamic` embeddings are made for."""
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    return float(rope["factor"]) if rope.get("rope_type") == "dynamic" else 1.0


def _eos_token_ids(model: PreTrainedModel) -> frozenset[int]:
    """Of the generation config first: chat models list more ids there than in the config."""
    for source in (model.generation_config, model.config):
        eos = getattr(source, "eos_token_id", None)
        if eos is not None:
            return frozenset([eos] if isinstance(eos, int) else eos)
    return frozenset()
