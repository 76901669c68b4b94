"""Logits → token ids, batched over sequences with parameters of their own.

Draws are counter-based: the random number of a token depends on (seed, choice, position) alone, so
equal logits draw equally whatever else is in the batch.
"""

import struct
from hashlib import blake2b

import torch

from service.core import SamplingParams, TokenLogprob
from service.step import PromptScore, Sample, SampledToken

_COUNTER = struct.Struct("<QQQ")
_MIN_TEMPERATURE = 1e-6
"""Below it only the best token is left; much below, float32 has no such number."""


def uniform(seed: int, choice: int, position: int) -> float:
    """A number in [0, 1) from a keyed hash of the counter."""
    counter = _COUNTER.pack(seed & (1 << 64) - 1, choice, position)
    digest = blake2b(counter, digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


@torch.inference_mode()
def sample(logits: torch.Tensor, samples: list[Sample]) -> list[SampledToken]:
    """`logits [len(samples), vocab]`, any float dtype; a token for each sample."""
    raw = logits.float()
    adjusted = _adjust(raw, samples)
    token_ids = adjusted.argmax(dim=-1)
    drawn = [index for index, one in enumerate(samples) if one.params.temperature > 0]
    if drawn:
        rows = torch.tensor(drawn, device=raw.device)
        token_ids[rows] = _draw(adjusted[rows], [samples[index] for index in drawn])
    ids: list[int] = token_ids.tolist()
    logprobs = _chosen_logprobs(raw, samples, ids)
    return [SampledToken(token_id, logprobs.get(index)) for index, token_id in enumerate(ids)]


@torch.inference_mode()
def score(logits: torch.Tensor, scores: list[PromptScore]) -> list[TokenLogprob]:
    """`logits [len(scores), vocab]`; how likely each prompt token was, with its rivals."""
    if not scores:
        return []
    logprobs = _log_softmax(logits.float())
    return [
        _token_logprob(row, one.token_id, one.num_top)
        for row, one in zip(logprobs, scores, strict=True)
    ]


def _chosen_logprobs(
    raw: torch.Tensor, samples: list[Sample], ids: list[int]
) -> dict[int, TokenLogprob]:
    asked = [index for index, one in enumerate(samples) if one.params.logprobs is not None]
    if not asked:
        return {}
    logprobs = _log_softmax(raw[torch.tensor(asked, device=raw.device)])
    return {
        index: _token_logprob(row, ids[index], samples[index].params.logprobs or 0)
        for index, row in zip(asked, logprobs, strict=True)
    }


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """Finite, because JSON knows no other numbers; OpenAI too says -9999 for what cannot be."""
    return logits.log_softmax(dim=-1).nan_to_num(nan=-9999.0, neginf=-9999.0)


def _token_logprob(logprobs: torch.Tensor, token_id: int, num_top: int) -> TokenLogprob:
    top: tuple[tuple[int, float], ...] = ()
    if num_top:
        values, ids = logprobs.topk(min(num_top, logprobs.shape[-1]))
        top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return TokenLogprob(token_id, logprobs[token_id].item(), top)


def _adjust(raw: torch.Tensor, samples: list[Sample]) -> torch.Tensor:
    """Bias and penalties, row by row and only where a sequence asks for them."""
    touched = [index for index, one in enumerate(samples) if _is_adjusted(one.params)]
    if not touched:
        return raw
    adjusted = raw.clone()
    for index in touched:
        _adjust_row(adjusted[index], samples[index])
    return adjusted


def _is_adjusted(params: SamplingParams) -> bool:
    return bool(
        params.logit_bias
        or params.presence_penalty
        or params.frequency_penalty
        or params.repetition_penalty != 1.0
    )


def _adjust_row(row: torch.Tensor, one: Sample) -> None:
    """Repetition as in transformers (prompt and output), presence and frequency as in OpenAI's API
    (output only), then the bias."""
    params = one.params
    if params.repetition_penalty != 1.0:
        seen = torch.tensor([*one.prompt_ids, *one.output_ids], device=row.device)
        seen = torch.unique(seen)
        values, penalty = row[seen], params.repetition_penalty
        row[seen] = torch.where(values > 0, values / penalty, values * penalty)
    if one.output_ids and (params.presence_penalty or params.frequency_penalty):
        outputs = torch.tensor(one.output_ids, device=row.device)
        seen, counts = torch.unique(outputs, return_counts=True)
        row[seen] -= params.presence_penalty + params.frequency_penalty * counts
    if params.logit_bias:
        ids, biases = zip(*params.logit_bias, strict=True)
        row[torch.tensor(ids, device=row.device)] += torch.tensor(biases, device=row.device)


def _draw(logits: torch.Tensor, samples: list[Sample]) -> torch.Tensor:
    """Inverse of the cumulative distribution over tokens in order of probability: `[n]` ids."""
    params = [one.params for one in samples]
    # Not-a-number ranks last and infinity first: one broken row must not end the whole step.
    logits = logits.nan_to_num(nan=torch.finfo(logits.dtype).min)
    temperature = _column([max(one.temperature, _MIN_TEMPERATURE) for one in params], logits)
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
    probabilities, ids = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    kept = probabilities * _kept(probabilities, params)
    cumulative = kept.double().cumsum(dim=-1)
    draws = [uniform(one.seed, one.choice, one.position) for one in samples]
    targets = torch.tensor(draws, dtype=torch.float64, device=logits.device)[:, None]
    picked = torch.searchsorted(cumulative, targets * cumulative[:, -1:], right=True)
    last = (kept > 0).sum(dim=-1, keepdim=True) - 1
    return ids.gather(-1, picked.minimum(last))[:, 0]


def _kept(probabilities: torch.Tensor, params: list[SamplingParams]) -> torch.Tensor:
    """Which of the sorted tokens top-k, top-p and min-p leave; the first always stays."""
    vocabulary = probabilities.shape[-1]
    rank = torch.arange(vocabulary, device=probabilities.device)
    top_k = _column([min(one.top_k or vocabulary, vocabulary) for one in params], probabilities)
    top_p = _column([one.top_p for one in params], probabilities)
    min_p = _column([one.min_p for one in params], probabilities)
    before = probabilities.cumsum(dim=-1) - probabilities
    kept = (rank < top_k) & ((before < top_p) | (top_p >= 1))
    kept &= probabilities >= min_p * probabilities[:, :1]
    kept[:, 0] = True
    return kept


def _column(values: list[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]
