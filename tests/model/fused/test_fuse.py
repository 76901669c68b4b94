"""What is found in whole models, and that they compute the same numbers with it."""

import pytest
import torch

from service.model.fused.fuse import Fused, fuse
from tests.model.fused.modules import base_of, kernel_of

IDS = torch.arange(5, 27).view(2, 11)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("llama", Fused(norms=5, gates=2, rotations=2)),
        ("qwen3", Fused(norms=9, gates=2, rotations=2)),
        ("gemma3", Fused(norms=37, gates=0, rotations=6)),
        ("phi3", Fused(norms=5, gates=2, rotations=2)),
        ("stablelm", Fused(norms=0, gates=2, rotations=2)),
        ("jamba", Fused(norms=13, gates=2, rotations=0)),
        ("gpt2", Fused()),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_fused_base_computes_the_same(
    architecture: str, expected: Fused, dtype: torch.dtype
) -> None:
    model = base_of(architecture, dtype)
    with torch.inference_mode():
        plain = model(IDS, use_cache=False).logits
        assert fuse(model, kernel_of(dtype)) == expected
        found = model(IDS, use_cache=False).logits
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found, plain, rtol=tolerance, atol=tolerance)


def test_another_model_of_the_family_keeps_its_own_code() -> None:
    fused, other = base_of("llama", torch.float32), base_of("llama", torch.float32)
    fuse(fused, kernel_of(torch.float32))
    assert any("forward" in vars(module) for module in fused.modules())
    assert not any("forward" in vars(module) for module in other.modules())
    own = type(other.model.layers[0].self_attn).forward
    assert isinstance(own.__globals__["apply_rotary_pos_emb"], type(lambda: None))


def test_a_base_is_fused_once() -> None:
    model = base_of("llama", torch.float32)
    kernel = kernel_of(torch.float32)
    fuse(model, kernel)
    assert fuse(model, kernel) == Fused()
