"""The text side of an upload: what of its chat template and its tokens is not the base's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from service.adapters.files import ADDED_TOKENS, CHAT_TEMPLATE, CHAT_TEMPLATES, TOKENIZER_FILES
from service.adapters.own_tokens import OwnTokens
from service.adapters.safetensors_header import MalformedFile
from service.compiler.declared_tokens import special_tokens
from service.compiler.job import Job
from service.compiler.own_template import check_template, find_template, tokenizer_template
from service.compiler.own_tokens import TokenRoom, find_misfit, find_own_tokens
from service.compiler.refusals import Refusals
from service.compiler.tokenizer_files import gives_same_ids
from service.compiler.tokenizer_folder import (
    CONFIG,
    SPECIAL_MAP,
    TOKEN_FILES,
    TokenizerFolder,
    UnreadableFile,
)
from service.templates.conversation import SPECIAL_TOKENS


@dataclass(frozen=True, slots=True)
class OwnText:
    template: str | None = None
    tokens: OwnTokens = field(default_factory=OwnTokens)
    used_files: frozenset[str] = frozenset()
    """Of the upload: where they came from."""

    def files(self) -> dict[str, bytes]:
        """By the names of `TEXT_FILES`; empty when everything is the base's."""
        files = {}
        if self.template is not None:
            files[CHAT_TEMPLATE] = self.template.encode()
        if self.tokens:
            files[ADDED_TOKENS] = self.tokens.to_bytes()
        return files


def read_text(folder: Path, names: tuple[str, ...], job: Job, refusals: Refusals) -> OwnText:
    """Adds the reasons why its requests could not be read and answered as its files say."""
    base = TokenizerFolder.of_base(Path(job.base.folder))
    room = TokenRoom(job.base.vocab_size, job.limits.max_added_tokens)
    if job.is_stored:
        return _stored(folder, names, base, room, refusals)
    kept = (TOKENIZER_FILES | CHAT_TEMPLATES) & set(names)
    if not kept:
        return OwnText()
    own = TokenizerFolder(folder, frozenset(kept), job.limits.max_tokenizer_bytes)
    try:
        return _compare(own, base, room, job, refusals)
    except UnreadableFile as error:
        refusals.add("tokenizer_differs", error.name, f"{error.name} {error}.")
        return OwnText()


def _compare(
    own: TokenizerFolder, base: TokenizerFolder, room: TokenRoom, job: Job, refusals: Refusals
) -> OwnText:
    found, theirs = find_template(own), _template_of(base)
    template = found[1] if found else theirs
    tokens = OwnTokens()
    if gives_same_ids(own, base, refusals) and any(map(own.has, TOKEN_FILES)):
        tokens = find_own_tokens(own, base, room, lambda role: role in (template or ""), refusals)
    has_own_roles = any(role in (template or "") for role in tokens.special_tokens)
    used = frozenset(filter(own.has, TOKEN_FILES)) if tokens else frozenset()
    if template is None or (template == theirs and not has_own_roles):
        return OwnText(tokens=tokens, used_files=used)
    file = found[0] if found else own.first(CONFIG, SPECIAL_MAP)
    check_template(template, file, _special_tokens(base, tokens), job.limits, refusals)
    return OwnText(template, tokens, used | {file})


def _stored(
    folder: Path,
    names: tuple[str, ...],
    base: TokenizerFolder,
    room: TokenRoom,
    refusals: Refusals,
) -> OwnText:
    """As it was published, if the base of today still has room for it."""
    template = (folder / CHAT_TEMPLATE).read_bytes().decode() if CHAT_TEMPLATE in names else None
    tokens = OwnTokens()
    if ADDED_TOKENS in names:
        try:
            tokens = OwnTokens.from_bytes((folder / ADDED_TOKENS).read_bytes())
        except MalformedFile as error:
            refusals.add("invalid_file", ADDED_TOKENS, f"{ADDED_TOKENS}: {error}")
    if (misfit := find_misfit(tokens.tokens, base, room)) is not None:
        refusals.add(misfit.code, ADDED_TOKENS, f"{ADDED_TOKENS}: {misfit.message}")
    return OwnText(template, tokens)


def _template_of(base: TokenizerFolder) -> str | None:
    try:
        found = tokenizer_template(base)
    except UnreadableFile:
        return None
    return found[1] if found else None


def _special_tokens(base: TokenizerFolder, own: OwnTokens) -> Mapping[str, str]:
    roles = {role: one.content for role, one in special_tokens(base).items()}
    merged = {**roles, **own.special_tokens}
    return {
        role: content
        for role, content in merged.items()
        if role in SPECIAL_TOKENS and content is not None
    }
