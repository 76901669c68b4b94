"""Decoding goes around transformers where that makes no difference."""

from typing import Any

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from service.model.tokenizer import HFTokenizer


class Shouting(PreTrainedTokenizerFast):
    def _decode(self, *args: Any, **kwargs: Any) -> str:
        return super()._decode(*args, **kwargs).upper()


def tokenizer_of(kind: type[PreTrainedTokenizerFast]) -> HFTokenizer:
    backend = Tokenizer(models.WordLevel({"▁a": 0, ",": 1, "</s>": 2}, unk_token="</s>"))
    backend.decoder = decoders.Metaspace()
    library = kind(tokenizer_object=backend, eos_token="</s>", clean_up_tokenization_spaces=True)
    return HFTokenizer(library, frozenset())


def test_a_class_that_decodes_in_its_own_way_is_asked() -> None:
    assert tokenizer_of(Shouting).decode([0, 1, 0], True) == "A, A"


def test_nothing_is_tidied_up() -> None:
    tokenizer = tokenizer_of(PreTrainedTokenizerFast)
    assert tokenizer.decode([0, 0, 1, 2], True) == "a a,"
    assert tokenizer.decode([2], True) == ""
    assert tokenizer.decode([2], False) == "</s>"
    assert tokenizer.decode([], True) == ""
