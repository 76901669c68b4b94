"""Which versions may take part in a weighted sum is known when they are compiled."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.compiler.terms import FrontTokens, Plan, SitePlan, Term, vector
from tests.adapters.peft_folders import make_lora

pytestmark = pytest.mark.filterwarnings("ignore")

CASES: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"use_rslora": True, "rank_pattern": {"q_proj": 2}}, True),
    ({"target_modules": ["q_proj", "lm_head"]}, True),
    ({"target_modules": ["q_proj", "o_proj"], "lora_bias": True}, True),
    ({"bias": "lora_only"}, False),
    ({"bias": "all", "target_modules": ["o_proj"]}, False),
    ({"bias": "lora_only", "lora_bias": True}, False),
    ({"use_dora": True}, False),
]


@pytest.mark.parametrize(("options", "is_summable"), CASES)
def test_lora_is_summable_unless_it_scales_or_replaces(
    bases, compile_folder, tmp_path: Path, options: dict[str, Any], is_summable: bool
) -> None:
    base = bases("qwen2")
    result = compile_folder(base, make_lora(base, tmp_path / "adapter", **options))
    assert result.manifest.is_summable is is_summable


def term(key: object = None) -> Term:
    return Term("float32", (2, 2), lambda: np.zeros((2, 2), np.float32), key=key)


LOW_RANK = Plan("kind", 2, {}, (), (SitePlan("q", {"a": term(), "b": term("its own")}),))


@pytest.mark.parametrize(
    "change",
    [
        {"tables": {"prefix.0.key": term()}},
        {"front": FrontTokens(num_virtual=1)},
        {"front": FrontTokens(invocation=(5,))},
        {"sites": (SitePlan("q", {"a": term(), "b": term(), "c": vector(np.ones(2))}),)},
        {"sites": (SitePlan("q", {"a": term(), "b": term(), "d": vector(np.ones(2))}),)},
        {"sites": (*LOW_RANK.sites, SitePlan("v", parameters={"weight": term()}))},
        {"sites": (*LOW_RANK.sites, SitePlan("v", layer={"module": "some"}))},
        {"sites": tuple(SitePlan(one, {"a": term("bank"), "b": term(one)}) for one in "qv")},
    ],
)
def test_whatever_else_a_plan_holds_excludes_it(change: dict[str, Any]) -> None:
    """Of any kind, also of one that does not think of sums."""
    assert LOW_RANK.is_summable
    assert not replace(LOW_RANK, **change).is_summable
