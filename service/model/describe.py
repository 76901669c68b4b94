"""What the rest of the service has to know of a loaded base: sites, bytes, fingerprint."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from transformers import PreTrainedModel

from service.adapters.safetensors_header import TensorInfo, read_tensor_infos
from service.core import BaseDescription, SiteDescription, SiteKind, TensorLocation
from service.model.probe import ProbeResult, num_embeddings, site_kind

_SAMPLE_BYTES = 4096
_VOLATILE_CONFIG = ("transformers_version", "torch_dtype", "dtype", "_name_or_path")
_TORCH_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """The weights files of the base folder by tensor name."""

    folder: Path
    tensors: dict[str, tuple[Path, TensorInfo]]

    def locate(self, name: str, parameter: torch.Tensor) -> TensorLocation | None:
        """Where a parameter's bytes lie; None when no tensor of that name has these values."""
        if name not in self.tensors:
            return None
        path, info = self.tensors[name]
        if info.dtype not in _TORCH_DTYPES or info.shape != tuple(parameter.shape):
            return None
        if not _starts_alike(path, info, parameter):
            return None
        return TensorLocation(str(path), info.dtype, info.shape, info.offset, info.num_bytes)


def read_base_files(folder: Path) -> BaseFiles:
    tensors = {
        name: (path, info)
        for path in sorted(folder.glob("*.safetensors"))
        for name, info in read_tensor_infos(path).items()
    }
    return BaseFiles(folder, tensors)


def fingerprint(files: BaseFiles) -> str:
    """sha256 over config, tensor headers and the first bytes of every tensor."""
    config = json.loads((files.folder / "config.json").read_text())
    stable = {key: value for key, value in config.items() if key not in _VOLATILE_CONFIG}
    digest = hashlib.sha256(json.dumps(stable, sort_keys=True).encode())
    for name, (path, info) in sorted(files.tensors.items()):
        digest.update(f"{name} {info.dtype} {info.shape}".encode())
        digest.update(_head(path, info))
    return digest.hexdigest()


def describe(
    name: str, model: PreTrainedModel, files: BaseFiles, found: ProbeResult, max_model_len: int
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
        fingerprint=fingerprint(files),
        architecture=type(model).__name__,
        dtype=cast(
            Literal["float32", "bfloat16", "float16"], str(model.dtype).removeprefix("torch.")
        ),
        vocab_size=num_embeddings(model),
        max_model_len=max_model_len,
        num_layers=len(found.layers),
        output_module=next((path for path, one in modules.items() if one is output), None),
        sites=sites,
        modules=tuple((path, type(one).__name__) for path, one in modules.items() if path),
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
    in_features, out_features = _features(kind, weight)
    return SiteDescription(
        path=path,
        kind=kind,
        in_features=in_features,
        out_features=out_features,
        rows=found.row_maps[path],
        weight=_locate(weight, files, names),
        bias=_locate(bias, files, names) if isinstance(bias, torch.Tensor) else None,
        has_bias=bias is not None,
    )


def _features(kind: SiteKind, weight: torch.Tensor) -> tuple[int, int]:
    """(in, out); at an embedding (vocabulary, width)."""
    match kind:
        case "linear":
            return weight.shape[1], weight.shape[0]
        case "conv1d" | "embedding":
            return weight.shape[0], weight.shape[1]
        case "norm":
            return weight.shape[0], weight.shape[0]


def _locate(
    parameter: torch.Tensor, files: BaseFiles, names: dict[int, list[str]]
) -> TensorLocation | None:
    """Tied parameters are stored once, under one of their names."""
    locations = (files.locate(name, parameter) for name in names[id(parameter)])
    return next((location for location in locations if location), None)


def _parameter_names(model: PreTrainedModel) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return names


def _starts_alike(path: Path, info: TensorInfo, parameter: torch.Tensor) -> bool:
    dtype = _TORCH_DTYPES[info.dtype]
    head = torch.frombuffer(bytearray(_head(path, info)), dtype=dtype)
    loaded = parameter.detach().flatten()[: head.numel()].cpu()
    return torch.equal(head.to(loaded.dtype), loaded)


def _head(path: Path, info: TensorInfo) -> bytes:
    with path.open("rb") as file:
        file.seek(info.offset)
        return file.read(min(_SAMPLE_BYTES, info.num_bytes))


def config_value(config: Any, *names: str) -> Any:
    """The first of `names` that the config has, looking into a nested text config as well."""
    text = config.get_text_config()
    return next((getattr(text, one) for one in names if getattr(text, one, None)), None)
