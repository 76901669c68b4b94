"""What the rest of the service has to know of a loaded base: sites, bytes, fingerprint."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from transformers import PreTrainedModel

from service.adapters.safetensors_header import TensorInfo, read_tensor_infos
from service.base import (
    BaseDescription,
    KVLayer,
    LaneName,
    Quantization,
    SiteDescription,
    SiteKind,
    TensorLocation,
)
from service.model.probe import ProbeResult, num_embeddings, site_kind
from service.quantized.modules import is_quantized

_SAMPLE_BYTES = 4096
_VOLATILE_CONFIG = ("transformers_version", "torch_dtype", "dtype", "_name_or_path")
_TORCH_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """The weights files of the base folder by tensor name."""

    folder: Path
    tensors: dict[str, tuple[Path, TensorInfo]]

    def locate(self, names: list[str], parameter: torch.Tensor) -> TensorLocation | None:
        """Where a parameter's bytes lie; None when no tensor has these values.

        Tied parameters are stored under one of their names. Some architectures have other names in
        the files than in the model (GPT-NeoX: `embed_out`), so at last every tensor is looked at.
        """
        own = [name for name in names if name in self.tensors]
        for name in own or self.tensors:
            path, info = self.tensors[name]
            if info.dtype not in _TORCH_DTYPES or info.shape != tuple(parameter.shape):
                continue
            if _is_alike(path, info, parameter):
                return TensorLocation(
                    str(path), info.dtype, info.shape, info.offset, info.num_bytes
                )
        return None


def read_base_files(folder: Path) -> BaseFiles:
    tensors = {
        name: (path, info)
        for path in sorted(folder.glob("*.safetensors"))
        for name, info in read_tensor_infos(path).items()
    }
    return BaseFiles(folder, tensors)


def fingerprint(files: BaseFiles, lane: LaneName, quantization: Quantization) -> str:
    """sha256 over config, tensor headers, the first bytes of every tensor, the quantisation, and
    the lane: another version of transformers may run the same base in another one, which takes
    other adapters."""
    config = json.loads((files.folder / "config.json").read_text())
    stable = {key: value for key, value in config.items() if key not in _VOLATILE_CONFIG}
    digest = hashlib.sha256(json.dumps([stable, lane, quantization], sort_keys=True).encode())
    for name, (path, info) in sorted(files.tensors.items()):
        digest.update(f"{name} {info.dtype} {info.shape}".encode())
        digest.update(_head(path, info))
    return digest.hexdigest()


def describe(
    name: str,
    model: PreTrainedModel,
    files: BaseFiles,
    lane: LaneName,
    found: ProbeResult,
    max_model_len: int,
    quantization: Quantization = "none",
) -> BaseDescription:
    names = _parameter_names(model)
    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    modules = dict(model.named_modules())
    sites = tuple(
        _describe_site(path, modules[path], found, files, names) for path in found.row_maps
    )
    return BaseDescription(
        name=name,
        folder=str(files.folder),
        fingerprint=fingerprint(files, lane, quantization),
        architecture=type(model).__name__,
        dtype=cast(
            Literal["float32", "bfloat16", "float16"], str(model.dtype).removeprefix("torch.")
        ),
        vocab_size=num_embeddings(model),
        max_model_len=max_model_len,
        lane=lane,
        kv_layers=tuple(
            KVLayer(layer, shape.num_heads, shape.key_dim, shape.value_dim)
            for layer, shape in sorted(found.layers.items())
        ),
        output_module=next((path for path, one in modules.items() if one is output), None),
        sites=sites,
        modules=tuple((path, type(one).__name__) for path, one in modules.items() if path),
        quantization=quantization,
    )


def _describe_site(
    path: str,
    module: torch.nn.Module,
    found: ProbeResult,
    files: BaseFiles,
    names: dict[int, list[str]],
) -> SiteDescription:
    kind = site_kind(module)
    weight, bias = module.weight, getattr(module, "bias", None)
    assert kind is not None
    assert isinstance(weight, torch.Tensor)
    in_features, out_features = _features(kind, module)
    return SiteDescription(
        path=path,
        kind=kind,
        in_features=in_features,
        out_features=out_features,
        rows=found.row_maps[path],
        weight=None if is_quantized(module) else files.locate(names[id(weight)], weight),
        bias=files.locate(names[id(bias)], bias) if isinstance(bias, torch.Tensor) else None,
        has_bias=bias is not None,
    )


def _features(kind: SiteKind, module: Any) -> tuple[int, int]:
    """(in, out); at an embedding (vocabulary, width)."""
    weight: torch.Tensor = module.weight
    match kind:
        case "linear":  # Not by the weight, which may be packed.
            return module.in_features, module.out_features
        case "conv1d" | "embedding":
            return weight.shape[0], weight.shape[1]
        case "norm":
            return weight.shape[0], weight.shape[0]


def _parameter_names(model: PreTrainedModel) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return names


def _is_alike(path: Path, info: TensorInfo, parameter: torch.Tensor) -> bool:
    """Samples from the start, the middle and the end."""
    dtype, flat = _TORCH_DTYPES[info.dtype], parameter.detach().flatten()
    count = min(_SAMPLE_BYTES // dtype.itemsize, len(flat))
    with path.open("rb") as file:
        for first in (0, (len(flat) - count) // 2, len(flat) - count):
            file.seek(info.offset + first * dtype.itemsize)
            stored = torch.frombuffer(bytearray(file.read(count * dtype.itemsize)), dtype=dtype)
            loaded = flat[first : first + count].cpu()
            if not torch.equal(stored.to(loaded.dtype), loaded):
                return False
    return True


def _head(path: Path, info: TensorInfo) -> bytes:
    with path.open("rb") as file:
        file.seek(info.offset)
        return file.read(min(_SAMPLE_BYTES, info.num_bytes))


def config_value(config: Any, *names: str) -> Any:
    """The first of `names` that the config has, looking into a nested text config as well."""
    text = config.get_text_config()
    return next((getattr(text, one) for one in names if getattr(text, one, None)), None)
