"""Default budgets from the memory that is free once the weights are loaded. Bytes throughout."""

from dataclasses import dataclass

import psutil
import torch

from service.errors import ConfigurationError
from service.model import cgroup

_GIB = 1 << 30
_CPU_KV_SHARE = 0.25
_ADAPTER_SHARE = 0.1
_MAX_DEFAULT_ADAPTERS = 4 * _GIB


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """None = choose."""

    max_model_len: int
    max_num_seqs: int
    block_size: int
    kv_bytes: int | None
    device_adapter_bytes: int | None
    gpu_memory_utilization: float


@dataclass(frozen=True, slots=True)
class PastCost:
    """Bytes that a sequence's past takes."""

    per_token: int
    """In keys and values; 0 for a model that keeps nothing but states."""
    per_sequence: int = 0
    """In states whose size does not depend on the length."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    num_blocks: int
    kv_bytes: int
    device_adapter_bytes: int


def plan_memory(options: MemoryOptions, cost: PastCost, device: torch.device) -> MemoryPlan:
    """Raises `ConfigurationError` when not even one full sequence fits.

    States are set aside for `max_num_seqs` sequences; what is left of `kv_bytes` becomes blocks.
    """
    free = _free_bytes(device, options.gpu_memory_utilization)
    adapters = options.device_adapter_bytes
    if adapters is None:
        adapters = min(int(free * _ADAPTER_SHARE), _MAX_DEFAULT_ADAPTERS)
    per_block = cost.per_token * options.block_size
    states = cost.per_sequence * options.max_num_seqs
    # One more position than the longest sequence has, so that admission may look one token ahead.
    per_sequence = -(-(options.max_model_len + 1) // options.block_size)
    useful = states + per_sequence * options.max_num_seqs * per_block
    kv_bytes = options.kv_bytes
    if kv_bytes is None:
        share = _CPU_KV_SHARE if device.type == "cpu" else 1.0
        kv_bytes = max(0, min(useful, int((free - adapters) * share)))
    if kv_bytes < states:
        raise ConfigurationError(
            f"kv_bytes: {kv_bytes:,} bytes do not hold the states of max_num_seqs "
            f"{options.max_num_seqs:,} sequences, {cost.per_sequence:,} bytes each; raise kv_bytes "
            "or lower max_num_seqs."
        )
    num_blocks = per_sequence * options.max_num_seqs
    if per_block:
        num_blocks = (kv_bytes - states) // per_block
    if num_blocks < per_sequence:
        raise ConfigurationError(
            f"kv_bytes: {kv_bytes:,} bytes hold {num_blocks * options.block_size:,} tokens, but "
            f"one sequence of max_model_len {options.max_model_len:,} needs "
            f"{per_sequence * per_block:,} bytes; raise kv_bytes or lower max_model_len."
        )
    return MemoryPlan(num_blocks, states + num_blocks * per_block, adapters)


def _free_bytes(device: torch.device, utilization: float) -> int:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return max(0, free - int(total * (1 - utilization)))
    machine = int(psutil.virtual_memory().available)
    container = cgroup.free_memory()
    return machine if container is None else min(machine, container)
