"""Kinds that are refused whole, and that the reason given is true of the pinned peft."""

import json
from typing import Any

import pytest
import torch
from peft import LilyConfig, ShadowConfig, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import PeftType
from safetensors.torch import save_file

from service.compiler.kinds.kind import KINDS
from service.compiler.tuners.kinds.registry import UNSERVABLE
from service.errors import AdapterRefused
from tests.compiler.tuners.bench import Bench
from tests.contract.kind_variants import perturb

pytestmark = pytest.mark.filterwarnings("ignore")


def adapted(bench: Bench, config: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    model = get_peft_model(bench.fresh_model(), config)
    perturb(model, 0.3)
    return model.eval()


def test_every_kind_of_peft_is_known() -> None:
    assert {one.value for one in PeftType} == KINDS
    assert UNSERVABLE.keys() < KINDS


@pytest.mark.parametrize("kind", UNSERVABLE)
def test_an_upload_of_the_kind_is_refused_with_its_reason(bench: Bench, kind: str) -> None:
    folder = bench.new_folder()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": kind, "r": 4}))
    save_file({"weight": torch.ones(1)}, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterRefused) as caught:
        bench.compile(folder)
    (reason,) = caught.value.refusals
    assert (reason.code, reason.subject) == ("unsupported_kind", "peft_type")
    assert UNSERVABLE[kind] in reason.message


@torch.no_grad()
def test_lily_depends_on_the_batch(bench: Bench) -> None:
    model = adapted(bench, LilyConfig(r=4, num_B=2, target_modules=["q_proj"]))
    alone = model(torch.tensor([[5, 6, 7]])).logits[0]
    beside = model(torch.tensor([[5, 6, 7], [50, 60, 70]])).logits[0]
    assert (alone - beside).abs().max() > 0.1


def test_shadow_does_not_run(bench: Bench) -> None:
    model = adapted(bench, ShadowConfig(target_modules=["q_proj"]))
    with pytest.raises(AttributeError):
        model(torch.tensor([[5, 6, 7]]))


def test_adamss_cannot_be_read_without_scikit_learn() -> None:
    with pytest.raises(ImportError, match="scikit-learn"):
        PEFT_TYPE_TO_CONFIG_MAPPING["ADAMSS"](target_modules=["q_proj"])


def test_pvera_is_refused_where_it_draws_its_answers(bench: Bench) -> None:
    folder = bench.make("pvera", sample_at_inference=True)
    with pytest.raises(AdapterRefused) as caught:
        bench.compile(folder)
    assert [one.subject for one in caught.value.refusals] == ["sample_at_inference"]
