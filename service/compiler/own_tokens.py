"""What an upload's tokenizer files add to the base's tokens; nothing else may differ."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from service.adapters.own_tokens import AddedToken, OwnTokens
from service.compiler.declared_tokens import DeclaredToken, DeclaredTokens, declared_tokens
from service.compiler.refusals import Refusals
from service.compiler.tokenizer_folder import TOKENIZER, TokenizerFolder
from service.templates.conversation import SPECIAL_TOKENS

_DIFFERS = "tokenizer_differs"
_MAX_CHARS = 1000
"""Of one token."""
_PLACED = ("bos_token", "eos_token")
"""What a post-processor may put around every prompt."""


@dataclass(frozen=True, slots=True)
class TokenRoom:
    vocab_size: int
    """Embedding rows of the base."""
    max_tokens: int


def find_own_tokens(
    own: TokenizerFolder,
    base: TokenizerFolder,
    room: TokenRoom,
    is_mentioned: Callable[[str], bool],
    refusals: Refusals,
) -> OwnTokens:
    """`is_mentioned`: whether the chat template that will be used names a special token's role.

    Adds the reasons why the tokens cannot be served. Raises `UnreadableFile`.
    """
    vocabulary = base.vocabulary()
    theirs = declared_tokens(base, vocabulary or {})
    mine = declared_tokens(own, vocabulary or {}, theirs.added)
    changed = _changed(mine, theirs, refusals)
    _refuse_missing(own, mine, theirs, refusals)
    for content, file in mine.nameless.items():
        message = f"{file} names the special token {content[:50]!r}, but no file gives it an id."
        refusals.add(_DIFFERS, file, message)
    if changed and not _is_in_order(own):
        refusals.add(_DIFFERS, TOKENIZER, f"{TOKENIZER} lists its added tokens out of order.")
    tokens = tuple(sorted((one.token for one in changed), key=lambda token: token.id))
    if (misfit := find_misfit(tokens, base, room)) is not None:
        file = next(one.file for one in changed if one.token is misfit.token)
        refusals.add(misfit.code, file, f"{file}: {misfit.message}")
    return OwnTokens(tokens, dict(_roles(mine, theirs, base, is_mentioned, refusals)))


@dataclass(frozen=True, slots=True)
class Misfit:
    token: AddedToken
    code: str
    message: str


def find_misfit(
    tokens: Sequence[AddedToken], base: TokenizerFolder, room: TokenRoom
) -> Misfit | None:
    """The first of `tokens`, sorted by id, that cannot be added to the base's as it is."""
    vocabulary = base.vocabulary()
    if tokens and vocabulary is None:
        return Misfit(tokens[0], _DIFFERS, "it cannot be compared with the base's tokenizer.")
    if len(tokens) > room.max_tokens:
        message = f"it adds {len(tokens)} tokens; {room.max_tokens} are allowed."
        return Misfit(tokens[0], "too_many_tokens", message)
    if (long := next((one for one in tokens if len(one.content) > _MAX_CHARS), None)) is not None:
        message = f"a token has {len(long.content)} characters; {_MAX_CHARS} are allowed."
        return Misfit(long, "added_token_too_long", message)
    for token, number in zip(tokens, _ids_when_added(tokens, base), strict=True):
        label = f"the token {token.content[:50]!r} has the id {token.id}"
        if token.id != number:
            message = f"{label}, but added to the base's tokenizer it gets {number}."
            return Misfit(token, _DIFFERS, message)
        if token.id >= room.vocab_size:
            message = (
                f"{label}, but the base has embedding rows for {room.vocab_size} tokens. Serve a"
                " base whose embeddings were resized and saved, or train without adding tokens."
            )
            return Misfit(token, "added_token_outside_vocabulary", message)
    return None


def _ids_when_added(tokens: Sequence[AddedToken], base: TokenizerFolder) -> Iterator[int]:
    """Ids are never chosen: a text that is a token already keeps its id, others get the next one

    (`AddedVocabulary::add_tokens` of tokenizers).
    """
    vocabulary = base.vocabulary() or {}
    theirs = declared_tokens(base, vocabulary).added
    highest = max((one.token.id for one in theirs.values()), default=-1)
    following = max(highest + 1, len(vocabulary))
    for token in tokens:
        if token.content in theirs:
            yield theirs[token.content].token.id
        elif token.content in vocabulary:
            yield vocabulary[token.content]
        else:
            yield following
            following += 1


def _changed(
    mine: DeclaredTokens, theirs: DeclaredTokens, refusals: Refusals
) -> list[DeclaredToken]:
    """New tokens, and those that only here are skipped when a text is made of ids."""
    changed: list[DeclaredToken] = []
    for content, declared in mine.added.items():
        known = theirs.added.get(content)
        if known is None or _is_promoted(known.token, declared.token):
            changed.append(declared)
        elif known.token != declared.token:
            message = f"{declared.file} differs from the base's in the token {content[:50]!r}."
            refusals.add(_DIFFERS, declared.file, message)
    return changed


def _is_promoted(known: AddedToken, declared: AddedToken) -> bool:
    """To a special token, which is looked for in the text as it was sent."""
    promoted = replace(known, special=True, normalized=declared.normalized)
    return not known.special and declared == promoted


def _is_in_order(own: TokenizerFolder) -> bool:
    """When such a file is read, ids follow from the order, whatever it says."""
    ids = [token["id"] for token in own.object(TOKENIZER).get("added_tokens") or ()]
    return ids == sorted(ids)


def _refuse_missing(
    own: TokenizerFolder, mine: DeclaredTokens, theirs: DeclaredTokens, refusals: Refusals
) -> None:
    """A file that is not there stands for the base's; one that is there lists everything."""
    for content, declared in theirs.added.items():
        if own.has(TOKENIZER) and own.has(declared.file) and content not in mine.added:
            message = f"{declared.file} lacks the base's token {content[:50]!r}."
            refusals.add(_DIFFERS, declared.file, message)
            return


def _roles(
    mine: DeclaredTokens,
    theirs: DeclaredTokens,
    base: TokenizerFolder,
    is_mentioned: Callable[[str], bool],
    refusals: Refusals,
) -> Iterable[tuple[str, str | None]]:
    around = json.dumps(base.object(TOKENIZER).get("post_processor"))
    for role, special in mine.special.items():
        known = theirs.special.get(role)
        known_content = known.content if known else None
        if role not in SPECIAL_TOKENS or special.content == known_content:
            continue
        is_placed = role in _PLACED and known_content and json.dumps(known_content) in around
        if special.content is not None and (role == "unk_token" or is_placed):
            message = f"{special.file} differs from the base's in {role}."
            refusals.add(_DIFFERS, special.file, message)
        elif is_mentioned(role) or (role == "eos_token" and special.content is not None):
            yield role, special.content
