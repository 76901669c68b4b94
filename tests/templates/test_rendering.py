"""What a worker renders is what `tokenizer.apply_chat_template` renders."""

from collections.abc import Iterator
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from service.templates.conversation import prompt_variables
from service.templates.environment import compile_template
from service.templates.limits import RenderLimits
from service.templates.worker import TemplateFailed, TemplateWorker
from tests.templates.samples import CONVERSATIONS, SAMPLES


@pytest.fixture(scope="module")
def worker() -> Iterator[TemplateWorker]:
    worker = TemplateWorker(RenderLimits())
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "?": 2}, unk_token="?"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_prompt_equals_transformers(worker, tokenizer, name: str, conversation: Any) -> None:
    template = SAMPLES[name]
    variables = prompt_variables(conversation, tokenizer.special_tokens_map)
    try:
        expected = tokenizer.apply_chat_template(
            conversation, chat_template=template, tokenize=False, add_generation_prompt=True
        )
    except Exception as error:
        with pytest.raises(TemplateFailed, match=str(error).split("!")[0]):
            worker.render(template, variables)
    else:
        assert worker.render(template, variables) == expected


def test_templates_find_what_transformers_gives_them() -> None:
    ours = compile_template("").environment
    theirs = chat_template_utils._compile_jinja_template("").environment
    for part in ("globals", "filters", "tests"):
        assert set(getattr(ours, part)) == set(getattr(theirs, part))
    for option in ("trim_blocks", "lstrip_blocks", "keep_trailing_newline", "autoescape"):
        assert getattr(ours, option) == getattr(theirs, option)
    assert len(ours.extensions) == len(theirs.extensions)
    assert {tag for one in ours.extensions.values() for tag in one.tags} == {
        tag for one in theirs.extensions.values() for tag in one.tags
    }


@pytest.mark.parametrize(
    "template",
    [
        "{{ namespace(_x=1) }}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{{ namespace(self=3).self }}",
        "{{ dict.fromkeys('ab', 1) }}",
        "{{ dict.__class__ }}",
        "{{ [].append(1) }}",
        "{{ messages.append(1) }}",
        "{{ ''.format.__globals__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ range(10 ** 9) }}",
        "{{ raise_exception('no: é') }}",
        "{{ messages[0].nothing.more }}",
        "{{ {'b': 1, 'a': '<ü>'} | tojson(sort_keys=true) }}",
        "{% include 'x' %}",
        "{{ lipsum() | length > 0 }}{{ cycler }}",
    ],
)
def test_limits_of_the_sandbox_equal_transformers(worker, tokenizer, template: str) -> None:
    messages = [{"role": "user", "content": "Hi"}]

    def ours() -> str:
        try:
            return worker.render(template, prompt_variables(messages, {}))
        except TemplateFailed as error:
            return str(error)

    def theirs() -> str:
        try:
            return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
        except Exception as error:
            return f"refuses: {error}".splitlines()[0]

    assert ours() == theirs()


def test_half_a_surrogate_pair_passes(worker) -> None:
    assert worker.render("{{ x }}\ud83d", {"x": "\udc00é"}) == "\udc00é\ud83d"
