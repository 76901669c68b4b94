"""Loads an upload through peft itself, and makes sure that peft took all of it.

After loading, peft is asked what it would save: a tensor that it would not save was not read, and
one that the upload lacks holds chance. Both are refused by name.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig, PeftModelForCausalLM
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils import PeftType, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils.constants import INCLUDE_LINEAR_LAYERS_SHORTHAND
from peft.utils.other import ModulesToSaveWrapper

from service.adapters.limits import AdapterLimits
from service.compiler.arrays import is_finite
from service.compiler.refusals import Refusals
from service.compiler.tuners.base import PREFIX, Fingerprints, PeftBase
from service.compiler.tuners.config import peft_config
from service.compiler.tuners.prompts import check_sizes
from service.compiler.upload import Upload
from service.quantized.modules import is_quantized

_TORCH_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
_NUMPY_FLOATS = frozenset({"F32", "F16", "BF16"})
Tensors = dict[str, torch.Tensor]

_SHARED_TENSORS = frozenset({PeftType.TINYLORA, PeftType.UNILORA})
"""Kinds whose tensors do not say which modules they are for."""
_ALIASES = ("lora_magnitude_vector.weight", "lora_magnitude_vector")


@dataclass(frozen=True, slots=True)
class LoadedUpload:
    model: PeftModelForCausalLM
    config: PeftConfig
    before: Fingerprints
    """Of the base, from before peft touched it."""
    used: frozenset[str]
    """Names of the tensors that have an effect."""


def load_upload(
    upload: Upload,
    base: PeftBase,
    run_dtype: str,
    limits: AdapterLimits,
    refusals: Refusals,
) -> LoadedUpload:
    """Raises `AdapterRefused`. Changes the base that it is given: run it in a fork."""
    config = peft_config(upload.config, limits, refusals)
    if config.is_prompt_learning:
        check_sizes(config, base.model, refusals)
    tensors = _read_tensors(upload, refusals)
    refusals.raise_if_any()
    is_wide = run_dtype == "float32"
    if is_wide:
        base.widen(_concerned(config, tensors, base))
    before = Fingerprints.take(base)
    torch.manual_seed(0)
    try:
        model = PeftModelForCausalLM(base.model, config)
    except Exception as error:
        where = " on a base in 8 or 4 bits" if base.is_quantized else ""
        message = f"peft cannot build it{where}: {error}"
        refusals.add("peft_rejects", "adapter_config.json", message)
        refusals.raise_if_any()
        raise
    _check_saved_modules(model, refusals)
    used = _load_tensors(model, tensors, base, is_wide, refusals)
    refusals.raise_if_any()
    return LoadedUpload(model.eval(), config, before, used)


def _concerned(config: PeftConfig, tensors: Tensors, base: PeftBase) -> set[str]:
    """Paths of the modules whose dtype decides in which dtype peft computes and keeps values."""
    paths = {base.owner_of(name) for name in tensors}
    if config.is_prompt_learning:
        paths.add(base.embedding_path)
    if config.is_adaption_prompt:
        paths |= {below for path in paths for below in base.below(path)}
    if config.peft_type in _SHARED_TENSORS:
        paths |= {path for path in base.modules if _is_target(config, path)}
    return paths


def _is_target(config: Any, path: str) -> bool:
    if config.target_modules in (None, INCLUDE_LINEAR_LAYERS_SHORTHAND):
        return True  # whatever peft takes that for is among all modules
    try:
        return bool(check_target_module_exists(config, path))
    except Exception:
        return True  # peft says by itself what is wrong with the config


def _read_tensors(upload: Upload, refusals: Refusals) -> Tensors:
    tensors = {}
    for name, info in upload.infos.items():
        if info.dtype not in _TORCH_DTYPES:
            message = f"The tensor {name!r} is {info.dtype}, which is not accepted."
            refusals.add("wrong_dtype", name, message)
            continue
        raw = torch.from_numpy(upload.weights.raw(info).copy())
        tensors[name] = tensor = _shaped(raw, _TORCH_DTYPES[info.dtype], info.shape)
        is_float = tensor.is_floating_point()
        if is_float and not (
            is_finite(upload.view(name)) if info.dtype in _NUMPY_FLOATS else tensor.isfinite().all()
        ):
            refusals.add("not_finite", name, f"The tensor {name!r} contains NaN or infinity.")
    return tensors


def _shaped(raw: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Nothing at all has a shape too: what is left of a module whose rank went to 0."""
    return raw.view(dtype).view(shape) if len(raw) else torch.empty(shape, dtype=dtype)


def _load_tensors(
    model: PeftModelForCausalLM,
    tensors: Tensors,
    base: PeftBase,
    is_wide: bool,
    refusals: Refusals,
) -> frozenset[str]:
    wanted = _saved(model, refusals)
    tensors = _without_base_copies(tensors, wanted, base, refusals)
    for name in sorted(tensors.keys() - wanted.keys()):
        if not _is_alias(name, wanted):
            message = f"The tensor {name!r} is not one this config asks for on this base."
            refusals.add("unknown_tensor", name, message)
    for name in sorted(wanted.keys() - tensors.keys()):
        if not _is_alias(name, tensors):
            refusals.add("missing_tensor", name, f"The tensor {name!r} is missing.")
    for name in sorted(tensors.keys() & wanted.keys()):
        have, want = list(tensors[name].shape), list(wanted[name].shape)
        if have != want:
            message = f"The tensor {name!r} has shape {have}, expected {want}."
            refusals.add("wrong_shape", name, message)
        if not _is_like(tensors[name].dtype, wanted[name].dtype):
            message = (
                f"The tensor {name!r} is {tensors[name].dtype}, expected {wanted[name].dtype}."
            )
            refusals.add("wrong_dtype", name, message.replace("torch.", ""))
    refusals.raise_if_any()
    try:
        set_peft_model_state_dict(model, tensors)
    except Exception as error:
        refusals.add("peft_rejects", "adapter_model.safetensors", f"peft cannot load it: {error}")
        refusals.raise_if_any()
    _check_taken(tensors, _saved(model, refusals), is_wide, refusals)
    return frozenset(tensors)


def _check_saved_modules(model: torch.nn.Module, refusals: Refusals) -> None:
    for path, module in model.named_modules():
        if isinstance(module, ModulesToSaveWrapper) and any(map(is_quantized, module.modules())):
            name = path.removeprefix(PREFIX)
            message = f"{name!r} is in 8 or 4 bits, so no other weight can take its place."
            refusals.add("unsupported_target", "modules_to_save", message)
    refusals.raise_if_any()


def _saved(model: PeftModelForCausalLM, refusals: Refusals) -> Tensors:
    """What peft would save; not the base's embeddings, of which it sometimes adds a copy."""
    try:
        saved: Tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    except Exception as error:
        message = f"peft cannot tell what belongs to the adapter: {error}"
        refusals.add("peft_rejects", "adapter_config.json", message)
        refusals.raise_if_any()
        raise
    return saved


def _without_base_copies(
    tensors: Tensors, wanted: Tensors, base: PeftBase, refusals: Refusals
) -> Tensors:
    """peft saves the base's own embeddings and output projection along when they are targets. A
    copy may be there, and it has to be one: peft would write it into the base."""
    kept = {}
    for name, tensor in tensors.items():
        own = None if name in wanted else base.parameter_named(name)
        is_copy = own is not None and _is_same(own, tensor)
        if own is None or (not is_copy and name.endswith(".bias")):
            kept[name] = tensor
        elif not is_copy:
            message = f"The tensor {name!r} differs from the base's own weight."
            refusals.add("base_differs", name, message)
    return kept


def _is_same(own: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Equal in the narrower of their dtypes."""
    return tensor.is_floating_point() and (
        torch.equal(own.to(tensor.dtype), tensor) or torch.equal(own, tensor.to(own.dtype))
    )


def _is_like(have: torch.dtype, want: torch.dtype) -> bool:
    """Floats of 16 or 32 bits stand for each other, as do integers of any size."""
    if have is torch.float64 or want is torch.float64:
        return have is want
    return have.is_floating_point == want.is_floating_point and (
        (have is torch.bool) == (want is torch.bool)
    )


def _check_taken(tensors: Tensors, saved: Tensors, is_wide: bool, refusals: Refusals) -> None:
    """What peft now holds must be what the upload says; on a base of small floats rounded to it."""
    for name, tensor in tensors.items():
        held = saved.get(name, saved.get(_other_spelling(name)))
        is_held = held is not None and held.shape == tensor.shape
        dtype = tensor.dtype if is_wide or held is None else held.dtype
        if held is None or not is_held or not torch.equal(held.to(dtype), tensor.to(dtype)):
            refusals.add("unread_tensor", name, f"peft does not use the tensor {name!r} as it is.")


def _is_alias(name: str, names: Tensors) -> bool:
    return _other_spelling(name) in names


def _other_spelling(name: str) -> str:
    """DoRA's magnitude had another name before peft 0.12, which peft still reads."""
    long, short = _ALIASES
    if name.endswith(long):
        return name.removesuffix(".weight")
    return re.sub(rf"{short}$", long, name) if name.endswith(short) else name
