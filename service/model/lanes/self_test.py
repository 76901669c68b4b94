"""Which lane runs an architecture exactly, found by trying on a tiny random model of its class.

A few tokens through the real weights would reach neither a window nor a rotary threshold, and
bfloat16 noise hides errors. So the lane of a new architecture is never looked up by its name.
"""

import copy
import itertools
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from service.core import NO_SLOT
from service.errors import ConfigurationError
from service.model.context import StepContext
from service.model.lanes.build import build_lane, prepare
from service.model.lanes.lane import LaneChoice
from service.model.lanes.shrink import VOCABULARY, small_configs
from service.model.probe import probe
from service.step import Segment, Step

TOLERANCE = 1e-4
_BLOCK_SIZE = 4
_CHUNKS = (5, 4)
"""How a prompt begins; the second one comes with a past. What follows are single tokens."""
_LENGTHS = (17, 11, 3, 1)
_STAGGER = 3
"""Steps between the starts of two prompts: the short one runs beside the end of a long one."""
_MAX_PARAMETERS = 100_000_000
_CANDIDATES = (
    LaneChoice("ragged"),
    LaneChoice("padded"),
    LaneChoice("solo"),
    LaneChoice("solo", can_chunk=False),
)


@dataclass(frozen=True, slots=True)
class TinyModel:
    model: PreTrainedModel
    """Never run in a lane itself: lanes change the modules of a model."""
    prompts: list[list[int]]
    expected: list[torch.Tensor]
    """`[tokens, vocab]` of each prompt alone, by transformers' own code."""


def choose_lane(config: PreTrainedConfig) -> LaneChoice:
    """The fastest exact one. Raises `ConfigurationError` when there is none."""
    problems: list[str] = []
    for small in small_configs(config):
        try:
            return _choose(make_tiny(small))
        except Exception as error:
            problems.append(_sentence(error))
    raise ConfigurationError(
        f"base_model: the architecture {config.model_type!r} runs exactly in no lane "
        f"({problems[0]})."
    )


def _choose(tiny: TinyModel) -> LaneChoice:
    rejected: list[tuple[str, str]] = []
    for candidate in _CANDIDATES:
        reason = _why_not(tiny, candidate)
        if reason is None:
            return LaneChoice(candidate.name, candidate.can_chunk, tuple(rejected))
        rejected.append((candidate.name, reason))
    raise ValueError("; ".join(f"{name}: {reason}" for name, reason in rejected))


def make_tiny(config: PreTrainedConfig) -> TinyModel:
    """Raises when transformers itself cannot run it: the widths do not fit each other."""
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    if skeleton.num_parameters() > _MAX_PARAMETERS:
        raise ValueError(f"{skeleton.num_parameters():,} parameters are too many for a test")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.float32
        ).eval()
        _sharpen(model)
        prompts = [torch.randint(3, VOCABULARY, (length,)).tolist() for length in _LENGTHS]
    oracle = copy.deepcopy(model)
    if oracle._can_set_attn_implementation():
        oracle.set_attn_implementation("eager")
    # Short ones first: transformers' `dynamic` rotary embeddings remember the longest call.
    alone = {len(prompt): _alone(oracle, prompt) for prompt in sorted(prompts, key=len)}
    return TinyModel(model, prompts, [alone[len(prompt)] for prompt in prompts])


def difference(tiny: TinyModel, choice: LaneChoice) -> float:
    """Largest logit difference between each prompt alone and all of them mixed, in chunks."""
    model, context = copy.deepcopy(tiny.model), StepContext()
    prepare(model, choice.name, context)
    longest = -(-max(_LENGTHS) // _BLOCK_SIZE)
    layers = probe(model, choice.name).layers
    num_blocks = longest * len(_LENGTHS)
    lane = build_lane(choice.name, model, context, layers, num_blocks, _BLOCK_SIZE)
    tables = [list(range(index * longest, (index + 1) * longest)) for index in range(len(_LENGTHS))]
    largest = 0.0
    for parts in _schedule(_CHUNKS if choice.can_chunk else (sum(_CHUNKS),)):
        step = _step(tiny, parts, tables)
        wanted = [row for row in range(len(step.token_ids)) if (row + len(parts)) % 3]
        expected = torch.stack([_expected(tiny, step, row) for row in wanted])
        found = lane.run(step, wanted)
        if found.shape != expected.shape:
            return float("inf")
        largest = max(largest, (found - expected).abs().max().item())
    return largest


def _why_not(tiny: TinyModel, choice: LaneChoice) -> str | None:
    try:
        found = difference(tiny, choice)
    except Exception as error:
        return f"does not run ({_sentence(error)})"
    return None if found <= TOLERANCE else f"logits differ by {found:.2g}"


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


@torch.inference_mode()
def _sharpen(model: PreTrainedModel) -> None:
    """Fresh weights are so small that attention hardly counts; a wrong mask has to show. Those of
    another size were made by a rule (state-space matrices), and stay."""
    for parameter in model.parameters():
        if parameter.ndim > 1 and parameter.std() < 0.1:
            parameter.mul_(8.0)


@torch.inference_mode()
def _alone(model: PreTrainedModel, prompt: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([prompt]), use_cache=False).logits[0]
    return logits


def _schedule(chunks: tuple[int, ...]) -> list[list[tuple[int, int, int]]]:
    """Steps of (prompt, first position, end), decode rows first; all prompts that have begun are in
    every step."""
    steps: list[list[tuple[int, int, int]]] = []
    for index, length in enumerate(_LENGTHS):
        sizes = itertools.chain(chunks, itertools.repeat(1))
        start = 0
        for number in itertools.count(_STAGGER * index):
            end = min(length, start + next(sizes))
            steps.extend([] for _ in range(number + 1 - len(steps)))
            steps[number].append((index, start, end))
            start = end
            if start == length:
                break
    return [sorted(step, key=lambda part: part[2] - part[1] > 1) for step in steps]


def _step(tiny: TinyModel, parts: list[tuple[int, int, int]], tables: list[list[int]]) -> Step:
    segments: list[Segment] = []
    token_ids: list[int] = []
    positions: list[int] = []
    for index, start, end in parts:
        prompt, first_row = tiny.prompts[index], len(token_ids)
        segments.append(
            Segment(str(index), first_row, end - start, start, tables[index], len(prompt))
        )
        token_ids += prompt[start:end]
        positions += range(start, end)
    return Step(
        token_ids=token_ids,
        positions=positions,
        row_slot=[NO_SLOT] * len(token_ids),
        segments=segments,
        num_decode=sum(end - start == 1 for _, start, end in parts),
        samples=[],
        prompt_scores=[],
    )


def _expected(tiny: TinyModel, step: Step, row: int) -> torch.Tensor:
    segment = next(one for one in reversed(step.segments) if one.first_row <= row)
    return tiny.expected[int(segment.request_id)][step.positions[row]]
