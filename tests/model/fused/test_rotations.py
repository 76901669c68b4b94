"""Which functions are taken for the rotation, and whose calls are another one's."""

import pytest
import torch

from service.model.elementwise_twin import rotated
from service.model.fused.rotations import FusedRotation, fuse_rotations
from tests.model.fused.modules import kernel_of

BF16 = torch.bfloat16
Pair = tuple[torch.Tensor, torch.Tensor]


def turn(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
    return rotated(q, k, cos, sin)


def turn_pairs(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
    """Numbers that follow each other belong together, as in GPT-J."""
    order = torch.arange(q.shape[-1]).view(-1, 2).T.flatten()
    back = order.argsort()
    query, key = rotated(q[..., order], k[..., order], cos, sin)
    return query[..., back], key[..., back]


def turn_wide(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
    query, key = rotated(q.float(), k.float(), cos.float(), sin.float())
    return query.to(q.dtype), key.to(k.dtype)


def turn_back(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Pair:
    return rotated(q, k, cos, -sin)


class Attention(torch.nn.Module):
    def forward(
        self, q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> Pair:
        return turn(q, k, cos, sin)


class OfPairs(torch.nn.Module):
    def forward(
        self, q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> Pair:
        return turn_pairs(q, k, cos, sin)


class Wide(torch.nn.Module):
    def forward(
        self, q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> Pair:
        return turn_wide(q, k, cos, sin)


class Back(torch.nn.Module):
    def forward(
        self, q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> Pair:
        return turn_back(q, k, cos, sin)


def heads(*shape: int) -> torch.Tensor:
    """Of queries and of keys, as projections make them."""
    return torch.randn(2, *shape).to(BF16).transpose(2, 3)


def test_modules_that_turn_their_heads_so_call_the_kernel() -> None:
    modules = torch.nn.ModuleList([Attention(), Attention()])
    other = Attention()
    assert fuse_rotations(modules, kernel_of(BF16)) == 2
    first, second = modules
    assert isinstance(first.forward.__globals__["turn"], FusedRotation)
    assert first.forward.__func__ is second.forward.__func__
    assert other.forward.__globals__["turn"] is turn
    cos, sin = torch.randn(2, 1, 7, 8).to(BF16)
    q, k = heads(1, 7, 3, 8)
    assert all(map(torch.equal, first(q, k, cos, sin), other(q, k, cos, sin)))


@pytest.mark.parametrize("kind", [OfPairs, Wide, Back])
def test_other_rotations_are_left_alone(kind: type[torch.nn.Module]) -> None:
    module = kind()
    assert fuse_rotations(module, kernel_of(BF16)) == 0
    assert "forward" not in vars(module)


def test_what_the_kernel_does_not_take_is_left_to_the_model_s_own() -> None:
    module = Attention()
    fuse_rotations(module, kernel_of(BF16))
    cos, sin = torch.randn(2, 1, 7, 8)
    q, k = heads(1, 7, 3, 8)
    found, expected = module(q, k, cos, sin), turn(q, k, cos, sin)
    assert found[0].dtype == torch.float32
    assert all(map(torch.equal, found, expected))
