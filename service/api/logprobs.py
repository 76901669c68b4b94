"""Log-probabilities in OpenAI's two shapes."""

from collections.abc import Sequence
from typing import Any

from service.handlers.choice import PlacedLogprob
from service.text import Tokenizer, token_label


def completion_logprobs(tokenizer: Tokenizer, placed: Sequence[PlacedLogprob]) -> dict[str, Any]:
    """Four parallel lists, as `/v1/completions` has them."""
    return {
        "tokens": [token_label(tokenizer, one.token_id) for one in placed],
        "token_logprobs": [one.logprob for one in placed],
        "top_logprobs": [_top_by_label(tokenizer, one) for one in placed],
        "text_offset": [one.offset for one in placed],
    }


def chat_logprobs(tokenizer: Tokenizer, placed: Sequence[PlacedLogprob]) -> dict[str, Any]:
    """One object per token, as `/v1/chat/completions` has them."""
    return {
        "content": [
            {
                **_entry(tokenizer, one.token_id, one.logprob),
                "top_logprobs": [_entry(tokenizer, *top) for top in one.top],
            }
            for one in placed
        ],
        "refusal": None,
    }


def _entry(tokenizer: Tokenizer, token_id: int, logprob: float | None) -> dict[str, Any]:
    raw = tokenizer.token_bytes(token_id)
    return {"token": token_label(tokenizer, token_id), "logprob": logprob, "bytes": list(raw)}


def _top_by_label(tokenizer: Tokenizer, placed: PlacedLogprob) -> dict[str, float] | None:
    """The alternatives and, as OpenAI does, the chosen token if it is none of them."""
    if placed.logprob is None:
        return None
    best: dict[str, float] = {}
    for token_id, logprob in (*placed.top, (placed.token_id, placed.logprob)):
        best.setdefault(token_label(tokenizer, token_id), logprob)
    return best
