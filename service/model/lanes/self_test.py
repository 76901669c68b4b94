"""Whether an architecture can run ragged, found by trying: a tiny random model of the same class.

Widths are cut, and windows and rotary thresholds shrunk so that the prompts cross them: a few
tokens through the real weights would reach neither, and bfloat16 noise hides errors.
"""

import copy
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from service.core import NO_SLOT, Segment, Step
from service.errors import ConfigurationError
from service.model.context import StepContext
from service.model.kv_store import KVStore
from service.model.lanes.ragged import RaggedLane
from service.model.probe import probe

TOLERANCE = 1e-4
_BLOCK_SIZE = 4
_WINDOW = 5
_THRESHOLD = 8
_LENGTHS = (17, 11, 3)
_STAGGER = 3
"""Steps between the starts of two prompts: the short one runs beside the end of a long one."""
_VOCABULARY = 128
_HEAD_DIM = 16


def check_ragged(config: PreTrainedConfig) -> None:
    """Raises `ConfigurationError` when the architecture is not exact in the ragged lane."""
    try:
        difference = ragged_difference(shrink(config))
    except Exception as error:
        raise ConfigurationError(
            f"base_model: the architecture {config.model_type!r} does not run in the ragged lane "
            f"({type(error).__name__}: {error})."
        ) from error
    if not difference <= TOLERANCE:
        raise ConfigurationError(
            f"base_model: the architecture {config.model_type!r} is not exact in the ragged lane "
            f"(logits differ by {difference:.2g})."
        )


def shrink(config: PreTrainedConfig) -> PreTrainedConfig:
    """The same architecture, small; layer patterns, norms, biases and scalings stay."""
    small = copy.deepcopy(config.get_text_config())
    heads = getattr(small, "num_attention_heads", 4)
    group = max(1, heads // (getattr(small, "num_key_value_heads", None) or heads))
    _set(small, "num_attention_heads", 4)
    _set(small, "num_key_value_heads", 2 if group > 1 else 4)
    _set(small, "hidden_size", 4 * _HEAD_DIM)
    _set(small, "head_dim", _HEAD_DIM)
    _set(small, "intermediate_size", 96)
    _set(small, "vocab_size", _VOCABULARY)
    _set(small, "sliding_window", _WINDOW)
    _cut_layers(small)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        _set(small, name, 1)
    _set(small, "original_max_position_embeddings", _THRESHOLD)
    for rope in _rope_dicts(small):
        if rope.get("rope_type") == "dynamic":
            small.max_position_embeddings = _THRESHOLD
        if "original_max_position_embeddings" in rope:
            rope["original_max_position_embeddings"] = _THRESHOLD
        for factors in {"short_factor", "long_factor"} & rope.keys():
            rope[factors] = rope[factors][: _HEAD_DIM // 2]
    return small


def _set(config: Any, name: str, value: Any) -> None:
    if getattr(config, name, None) is not None:
        setattr(config, name, value)


def _cut_layers(config: Any) -> None:
    """Enough layers to meet every layer type once."""
    kinds = getattr(config, "layer_types", None)
    if not kinds:
        _set(config, "num_hidden_layers", 2)
        return
    needed = max(kinds.index(kind) for kind in set(kinds)) + 1
    count = min(len(kinds), max(2, needed))
    config.layer_types = kinds[:count]
    config.num_hidden_layers = count


def _rope_dicts(config: Any) -> list[dict[str, Any]]:
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [value for value in rope.values() if isinstance(value, dict)]
    return nested or [rope]


def ragged_difference(config: PreTrainedConfig) -> float:
    """Largest logit difference between each prompt alone and all of them mixed, in chunks."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.float32
        ).eval()
        _sharpen(model)
        prompts = [torch.randint(3, _VOCABULARY, (length,)).tolist() for length in _LENGTHS]
    model.set_attn_implementation("eager")
    alone = [_solo(model, prompt) for prompt in prompts]
    mixed = _ragged(model, prompts)
    return max((one - other).abs().max().item() for one, other in zip(alone, mixed, strict=True))


@torch.inference_mode()
def _sharpen(model: PreTrainedModel) -> None:
    """Fresh weights are so small that attention hardly counts; a wrong mask has to show."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(8.0)


@torch.inference_mode()
def _solo(model: PreTrainedModel, prompt: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([prompt]), use_cache=False).logits[0]
    return logits


def _ragged(model: PreTrainedModel, prompts: list[list[int]]) -> list[torch.Tensor]:
    """Each prompt in chunks of 5, then token by token, all prompts in every step."""
    longest = -(-max(map(len, prompts)) // _BLOCK_SIZE)
    store = KVStore(
        probe(model).layers, longest * len(prompts), _BLOCK_SIZE, model.dtype, model.device
    )
    lane = RaggedLane(model, store, StepContext())
    tables = [list(range(index * longest, (index + 1) * longest)) for index in range(len(prompts))]
    logits: list[list[torch.Tensor]] = [[] for _ in prompts]
    done = [0] * len(prompts)
    for number in range(sum(_LENGTHS)):
        chunks = [
            (index, prompt[done[index] :][: 5 if done[index] < 5 else 1])
            for index, prompt in enumerate(prompts)
            if done[index] < len(prompt) and number >= _STAGGER * index
        ]
        if not chunks:
            break
        chunks.sort(key=lambda chunk: len(chunk[1]) > 1)
        output = lane.run(step := _step(chunks, done, tables), list(range(len(step.token_ids))))
        for (index, tokens), segment in zip(chunks, step.segments, strict=True):
            logits[index].append(output[segment.first_row : segment.first_row + len(tokens)])
            done[index] += len(tokens)
    return [torch.cat(parts) for parts in logits]


def _step(chunks: list[tuple[int, list[int]]], done: list[int], tables: list[list[int]]) -> Step:
    segments: list[Segment] = []
    token_ids: list[int] = []
    positions: list[int] = []
    for index, tokens in chunks:
        segments.append(
            Segment(str(index), len(token_ids), len(tokens), done[index], tables[index])
        )
        token_ids += tokens
        positions += range(done[index], done[index] + len(tokens))
    return Step(
        token_ids=token_ids,
        positions=positions,
        row_slot=[NO_SLOT] * len(token_ids),
        segments=segments,
        num_decode=sum(len(tokens) == 1 for _, tokens in chunks),
        samples=[],
        prompt_scores=[],
    )
