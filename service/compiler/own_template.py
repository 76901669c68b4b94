"""The chat template of an upload: which one it is, and whether it can be used at all."""

import re
from collections.abc import Mapping
from typing import Any

from service.adapters.files import CHAT_TEMPLATE
from service.adapters.limits import AdapterLimits
from service.compiler.refusals import Refusals
from service.compiler.tokenizer_folder import CONFIG, TokenizerFolder, UnreadableFile, reading
from service.templates.conversation import prompt_variables
from service.templates.limits import RenderLimits
from service.templates.worker import TemplateFailed, TemplateWorker

LEGACY_TEMPLATE = "chat_template.json"
_NEWLINE = re.compile(r"\r\n|\r")
_USER = {"role": "user", "content": "Hello"}
_ASSISTANT = {"role": "assistant", "content": "Hi"}
_PROBES = (
    (_USER,),
    (_USER, _ASSISTANT, _USER),
    ({"role": "system", "content": "Be brief."}, _USER),
)
"""Some templates insist on a system message, some refuse it; one of these suits everybody."""


def find_template(files: TokenizerFolder) -> tuple[str, str] | None:
    """File and text, in the form in which it is stored. Raises `UnreadableFile`.

    The oldest form, which tokenizers do not read at all, counts when nothing else does.
    """
    found = tokenizer_template(files)
    legacy = files.object(LEGACY_TEMPLATE).get("chat_template")
    if legacy is None:
        return found
    text = _default(legacy, LEGACY_TEMPLATE)
    if found is not None and found[1] != text:
        raise UnreadableFile(LEGACY_TEMPLATE, f"holds another chat template than {found[0]}")
    return found or (LEGACY_TEMPLATE, text)


def tokenizer_template(files: TokenizerFolder) -> tuple[str, str] | None:
    """As `AutoTokenizer` finds it: a file of its own comes before the config's entry."""
    data = files.data(CHAT_TEMPLATE)
    with reading(CHAT_TEMPLATE):
        if data is not None:
            return CHAT_TEMPLATE, _settled(data.decode())
    config = files.object(CONFIG).get("chat_template")
    return None if config is None else (CONFIG, _default(config, CONFIG))


def check_template(
    text: str,
    file: str,
    special_tokens: Mapping[str, str],
    limits: AdapterLimits,
    refusals: Refusals,
) -> None:
    """Render what a first request would look like, exactly as it will be rendered then."""
    try:
        num_bytes = len(text.encode())
    except UnicodeEncodeError:
        refusals.add("chat_template", file, f"{file} holds a chat template that is no valid text.")
        return
    if num_bytes > limits.max_chat_template_bytes:
        limit = limits.max_chat_template_bytes
        message = f"{file} holds a chat template of {num_bytes} bytes; {limit} are allowed."
        refusals.add("chat_template", file, message)
        return
    if failure := _failure(text, special_tokens):
        refusals.add("chat_template", file, f"The chat template in {file} {failure}.")


def _failure(text: str, special_tokens: Mapping[str, str]) -> str | None:
    worker = TemplateWorker(RenderLimits())
    first: str | None = None
    try:
        for messages in _PROBES:
            try:
                worker.render(text, prompt_variables(messages, special_tokens))
                return None
            except TemplateFailed as error:
                first = first or str(error)
        return first
    finally:
        worker.close()


def _default(value: Any, file: str) -> str:
    """Of several named templates the one that is used when no tools are given."""
    if isinstance(value, str):
        return _settled(value)
    with reading(file):
        named = (
            {one["name"]: one["template"] for one in value} if isinstance(value, list) else value
        )
        if "default" not in named:
            raise UnreadableFile(file, "holds several chat templates, but none is called default")
        return _settled(str(named["default"]))


def _settled(text: str) -> str:
    """Jinja reads every kind of line end alike, and drops the last one: with it or without."""
    text = _NEWLINE.sub("\n", text)
    return text if text.endswith("\n") else text + "\n"
