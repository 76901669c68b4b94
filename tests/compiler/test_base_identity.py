from dataclasses import replace

import pytest

from service.base import BaseDescription
from service.compiler.base_identity import base_disagreements

COMMIT, OTHER = "a" * 40, "b" * 40
BASE = BaseDescription(
    name="llama-3-8b",
    folder=f"/cache/models--meta--Llama-3-8B/snapshots/{COMMIT}",
    fingerprint="",
    architecture="",
    dtype="float32",
    vocab_size=1,
    max_model_len=1,
    lane="ragged",
    kv_layers=(),
    output_module=None,
    sites=(),
    modules=(),
)


def fields(base: BaseDescription = BASE, **config: object) -> list[str]:
    return [field for field, _ in base_disagreements(config, base)]


@pytest.mark.parametrize(
    "name",
    ["meta/Llama-3-8B", "other/LLAMA-3-8b", "Llama-3-8B", "/data/x", "./x", "../x", "~/x", "a/b/c",
     "C:\\x", "models\\x", None, "", 3],
)  # fmt: skip
def test_the_same_base_and_what_is_unknown_pass(name: object) -> None:
    assert fields(base_model_name_or_path=name) == []


def test_another_base_is_named() -> None:
    assert fields(base_model_name_or_path="meta/Llama-3-70B") == ["base_model_name_or_path"]
    assert fields(base_model_name_or_path="gpt2") == ["base_model_name_or_path"]


def test_a_served_name_may_be_anything_when_the_hub_s_folder_tells_the_model() -> None:
    assert fields(replace(BASE, name="prod"), base_model_name_or_path="meta/Llama-3-8B") == []


def test_only_commits_are_compared() -> None:
    assert fields(revision=OTHER) == ["revision"]
    assert fields(revision=COMMIT) == []
    assert fields(revision="main") == []
    assert fields(replace(BASE, folder="/models/x"), revision=OTHER) == []
