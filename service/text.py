"""Between token ids and text: the tokenizer protocol, incremental decoding, stop strings.

Knows no HTTP, no engine and no tokenizer library; `model/tokenizer.py` implements the protocol.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.core import AdapterRef

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_MAX_PENDING = 16
"""Undecodable tokens held back before a part of them is given up as broken text."""

_OPEN_TOKENS = 4
"""A character has at most four bytes, so only this many last tokens can still change."""

_MAX_CONTEXT = 6
"""Prompt tokens that decide whether the first generated one keeps its leading space."""


class Tokenizer(Protocol):
    """What the handlers need of a tokenizer. Called from several threads, so must hold no state."""

    @property
    def vocab_size(self) -> int:
        """Ids from 0 to below this are valid in a prompt."""

    @property
    def eos_token_ids(self) -> frozenset[int]: ...

    def encode(self, text: str, add_special_tokens: bool) -> list[int]: ...

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        """Must not tidy up spaces: text may only grow when tokens are added."""

    def is_special(self, token_id: int) -> bool:
        """Whether `decode` leaves the token out when it skips special tokens."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that the token stands for inside a text, which may be a part of a character."""

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt of a conversation, special tokens included.

        Raises `InvalidRequest` when there is no chat template, or when the template refuses.
        """


@dataclass(frozen=True, slots=True)
class TextForm:
    """How the text of one adapter version's requests becomes token ids, and back."""

    tokenizer: Tokenizer
    render_own_chat: Callable[[Sequence[Mapping[str, str]]], Awaitable[str]] | None = None
    """Of a chat template that came with the adapter: like `Tokenizer.render_chat`, which it
    replaces, but what it runs is not trusted."""
    own_eos_ids: tuple[int, ...] = ()
    """Ids that end an answer beside the base's."""


class TextSource(Protocol):
    """Knows which versions have a chat template or tokens of their own."""

    async def form_of(self, adapter: AdapterRef | None) -> TextForm:
        """None is the base. Raises `InvalidRequest` for a sum whose parts disagree, and
        `AdapterLoadFailed`."""


def token_label(tokenizer: Tokenizer, token_id: int) -> str:
    """A token as OpenAI names it: its text, or `bytes:\\xe4` when it is a part of a character."""
    raw = tokenizer.token_bytes(token_id)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


class IncrementalDetokenizer:
    """Decodes a growing token sequence; the deltas joined are the whole sequence decoded.

    Two rules make a token's text depend on its neighbours: a character may be split over tokens,
    and some tokenizers drop the first token's leading space. So a window is decoded again with
    every token, short enough to cost O(1): the tokens that are still incomplete, behind tokens
    whose text is already out and which serve as context.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._window = self._context_of(prompt_ids)
        self._num_context = len(self._window)
        self._num_emitted = len(self._decode(self._window))

    def add(self, token_id: int) -> str:
        """The text that became certain with this token."""
        if self._tokenizer.is_special(token_id):
            return ""
        self._window.append(token_id)
        text = self._tokenizer.decode(self._window, skip_special_tokens=True)
        if not text.endswith(REPLACEMENT):
            delta = text[self._num_emitted :]
            self._move_to(self._num_context)
            return delta
        if len(self._window) - self._num_context < _MAX_PENDING:
            return ""
        return self._give_up_oldest(text)

    def flush(self) -> str:
        """The text of whatever is incomplete, once nothing can follow."""
        delta = self._decode(self._window)[self._num_emitted :]
        self._move_to(len(self._window))
        return delta

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True) if ids else ""

    def _context_of(self, prompt_ids: Sequence[int]) -> list[int]:
        """The prompt's last tokens back to a special one, unless they end inside a character."""
        context: list[int] = []
        for token_id in reversed(prompt_ids[-_MAX_CONTEXT:]):
            if self._tokenizer.is_special(token_id):
                break
            context.insert(0, token_id)
        return [] if self._decode(context).endswith(REPLACEMENT) else context

    def _move_to(self, start: int) -> None:
        """Everything is out: the window from `start` on becomes the context of what follows."""
        del self._window[:start]
        self._num_context = len(self._window)
        self._num_emitted = len(self._decode(self._window))

    def _give_up_oldest(self, text: str) -> str:
        """Emit a broken text up to the last token border that provably splits no character."""
        for cut in range(len(self._window) - _OPEN_TOKENS, self._num_context, -1):
            head = self._decode(self._window[:cut])
            if head + self._decode(self._window[cut:]) == text:
                delta = head[self._num_emitted :]
                del self._window[:cut]
                self._num_context, self._num_emitted = 0, 0
                return delta
        return self.flush()


@dataclass(frozen=True, slots=True)
class StopResult:
    """Text that may be sent, and the stop string that ended the generation, if one did."""

    text: str
    stop: str | None = None


class StopChecker:
    """Cuts a stream of text before the stop string that is completed first.

    Follows every stop string with its Knuth-Morris-Pratt automaton: O(1) amortised per character,
    and the result does not depend on how the text is split. A text that may become a stop string
    is held back. Stop strings that end at the same character: the longest one cuts.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._fallbacks = [_fallbacks(stop) for stop in self._stops]
        self._matched = [0] * len(self._stops)
        self._held = ""

    def add(self, delta: str) -> StopResult:
        if not self._stops or not delta:
            return StopResult(delta)
        text = self._held + delta
        for index, char in enumerate(delta, start=len(self._held) + 1):
            stop = self._advance(char)
            if stop is not None:
                self._held = ""
                return StopResult(text[: index - len(stop)], stop)
        border = len(text) - max(self._matched)
        self._held = text[border:]
        return StopResult(text[:border])

    def flush(self) -> str:
        """The text held back, once nothing can follow."""
        held, self._held = self._held, ""
        return held

    def _advance(self, char: str) -> str | None:
        complete: str | None = None
        for i, stop in enumerate(self._stops):
            matched = self._matched[i]
            while matched and stop[matched] != char:
                matched = self._fallbacks[i][matched - 1]
            if stop[matched] == char:
                matched += 1
            if matched == len(stop):
                if complete is None or len(stop) > len(complete):
                    complete = stop
                matched = self._fallbacks[i][matched - 1]
            self._matched[i] = matched
        return complete


def _fallbacks(stop: str) -> list[int]:
    """For each prefix, the length of its longest proper prefix that is also its suffix."""
    table = [0] * len(stop)
    matched = 0
    for i in range(1, len(stop)):
        while matched and stop[matched] != stop[i]:
            matched = table[matched - 1]
        if stop[matched] == stop[i]:
            matched += 1
        table[i] = matched
    return table
