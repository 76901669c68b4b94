"""Which tokenizer, chat template and ends a bound version has."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from service import adapter_texts
from service.adapter_texts import AdapterTexts
from service.adapters.own_tokens import AddedToken, OwnTokens
from service.adapters.sums import sum_ref
from service.adapters.text_files import text_digest
from service.core import AdapterPart, AdapterRef
from service.errors import AdapterLoadFailed, InvalidRequest
from service.model.tokenizer import HFTokenizer
from service.templates.renderer import TemplateRenderer

USER = [{"role": "user", "content": "hi"}]
NEW = AddedToken("<new>", 5, True, False, False, False, False)
TEMPLATE = b"{{ bos_token }}|{{ eos_token }}|{{ messages[0].content }}\n"


@pytest.fixture
def base() -> HFTokenizer:
    vocabulary = {"<s>": 0, "</s>": 1, "?": 2, "hi": 3, "you": 4}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    return HFTokenizer(tokenizer, frozenset({1}))


@pytest.fixture
def version(tmp_path: Path) -> Callable[..., AdapterRef]:
    """A stored version: its reference, with the files that it has."""
    made = []

    def make(template: bytes | None = None, tokens: OwnTokens | None = None) -> AdapterRef:
        files = {} if template is None else {"chat_template.jinja": template}
        if tokens is not None:
            files["added_tokens.json"] = tokens.to_bytes()
        digest = f"{len(made):064d}"
        made.append(digest)
        (tmp_path / digest).mkdir()
        for name, data in files.items():
            (tmp_path / digest / name).write_bytes(data)
        return AdapterRef("a", len(made), digest, 0, text_digest=text_digest(files))

    return make


def run(base: HFTokenizer, folder: Path, scene: Callable[[AdapterTexts], Coroutine]) -> Any:
    async def main() -> Any:
        renderer = TemplateRenderer()
        try:
            return await scene(AdapterTexts(base, renderer, lambda digest: folder / digest))
        finally:
            await renderer.close()

    return asyncio.run(main())


def test_the_base_and_plain_versions_share_the_bases_form(base, version, tmp_path) -> None:
    async def scene(texts: AdapterTexts) -> None:
        for ref in (None, version()):
            form = await texts.form_of(ref)
            assert form.tokenizer is base
            assert form.render_own_chat is None
            assert form.own_eos_ids == ()

    run(base, tmp_path, scene)


def test_an_own_template_renders_with_the_versions_special_tokens(base, version, tmp_path) -> None:
    async def scene(texts: AdapterTexts) -> None:
        form = await texts.form_of(version(TEMPLATE))
        assert form.tokenizer is base
        assert await form.render_own_chat(USER) == "<s>|</s>|hi"
        own = OwnTokens((NEW,), {"eos_token": "<new>", "bos_token": None})
        form = await texts.form_of(version(TEMPLATE, own))
        assert await form.render_own_chat(USER) == "|<new>|hi"
        assert form.own_eos_ids == (5,)
        assert form.tokenizer.encode("hi<new>you", False) == [3, 5, 4]
        assert base.encode("hi<new>", False) != [3, 5]

    run(base, tmp_path, scene)


def test_an_end_that_the_base_knows_is_no_own_one(base, version, tmp_path) -> None:
    async def scene(texts: AdapterTexts) -> None:
        form = await texts.form_of(version(tokens=OwnTokens((), {"eos_token": "</s>"})))
        assert form.own_eos_ids == ()
        form = await texts.form_of(version(tokens=OwnTokens((), {"eos_token": "you"})))
        assert form.own_eos_ids == (4,)

    run(base, tmp_path, scene)


def test_an_endless_template_is_the_clients_error(base, version, tmp_path) -> None:
    async def scene(texts: AdapterTexts) -> None:
        form = await texts.form_of(version(b"{{ 'a' * 10 ** 12 }}"))
        with pytest.raises(InvalidRequest, match="more time or memory"):
            await form.render_own_chat(USER)

    run(base, tmp_path, scene)


@pytest.mark.parametrize("damage", ["gone", "changed", "misfit"])
def test_text_that_is_not_what_was_published_is_never_used(
    base, version, tmp_path, damage: str
) -> None:
    number = 9 if damage == "misfit" else 5
    ref = version(TEMPLATE, OwnTokens((replace(NEW, id=number),)))
    if damage == "gone":
        (tmp_path / ref.digest / "chat_template.jinja").unlink()
    elif damage == "changed":
        (tmp_path / ref.digest / "chat_template.jinja").write_bytes(TEMPLATE + b"!")

    async def scene(texts: AdapterTexts) -> None:
        with pytest.raises(AdapterLoadFailed):
            await texts.form_of(ref)

    run(base, tmp_path, scene)


def test_a_sum_has_the_text_that_its_parts_share(base, version, tmp_path) -> None:
    own = OwnTokens((NEW,))
    other = OwnTokens((replace(NEW, content="<other>"),))
    plain, template, tokens = version(), version(TEMPLATE), version(tokens=own)
    same = version(TEMPLATE)
    foreign = version(tokens=other)

    def total(*refs: AdapterRef) -> AdapterRef:
        return sum_ref(tuple(AdapterPart(ref, 0.5) for ref in refs))

    async def scene(texts: AdapterTexts) -> None:
        assert (await texts.form_of(total(plain, version()))).render_own_chat is None
        form = await texts.form_of(total(template, same))
        assert await form.render_own_chat(USER) == "<s>|</s>|hi"
        form = await texts.form_of(total(plain, template))
        assert form.tokenizer is base
        with pytest.raises(InvalidRequest, match="different chat templates"):
            await form.render_own_chat(USER)
        for ref in (plain, foreign):
            with pytest.raises(InvalidRequest, match="different tokens"):
                await texts.form_of(total(tokens, ref))

    run(base, tmp_path, scene)


def test_a_text_is_read_once_and_not_for_ever(
    base, version, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_texts, "_MAX_TEXTS", 2)
    refs = [version(f"{number}".encode()) for number in range(3)]

    async def scene(texts: AdapterTexts) -> None:
        for ref in refs:
            await texts.form_of(ref)
        assert set(texts._known) == {ref.text_digest for ref in refs[1:]}
        (tmp_path / refs[1].digest / "chat_template.jinja").unlink()
        form = await texts.form_of(refs[1])
        assert await form.render_own_chat(USER) == "1"

    run(base, tmp_path, scene)
