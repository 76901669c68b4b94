"""Gives every adapter version its text: the base's tokenizer and chat template, or its own."""

from service.core import AdapterRef
from service.text import TextForm, Tokenizer


class AdapterTexts:
    """Implements `service.text.TextSource`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._base = TextForm(tokenizer)

    async def form_of(self, adapter: AdapterRef | None) -> TextForm:  # noqa: ARG002
        return self._base
