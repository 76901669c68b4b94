"""Stacked factors: every number of every part in its place, and nothing else."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from service.adapters.compiled import CompiledHeader, SiteTerms, TermView, align
from service.adapters.sums import merge_parts, sum_ref
from service.core import AdapterPart, AdapterRef
from service.errors import AdapterLoadFailed, InvalidRequest
from service.model.composition import SumBuilder
from service.model.host_adapter import HostAdapter, view_of

Sites = Mapping[str, Mapping[str, torch.Tensor]]


def host_adapter(name: str, sites: Sites) -> HostAdapter:
    chunks: list[torch.Tensor] = []
    end, described = 0, []
    for path, terms in sites.items():
        views = {}
        for term, tensor in terms.items():
            raw = tensor.contiguous().view(torch.uint8).flatten()
            views[term] = TermView(str(tensor.dtype)[6:], tuple(tensor.shape), end)
            chunks += [raw, torch.zeros(align(len(raw)) - len(raw), dtype=torch.uint8)]
            end += align(len(raw))
        described.append(SiteTerms(path, views))
    header = CompiledHeader(name, "base", "float32", end, tuple(described))
    return HostAdapter(header, torch.cat(chunks))


def ref_of(adapter: HostAdapter) -> AdapterRef:
    header = adapter.header
    return AdapterRef(header.digest, 1, header.digest, header.payload_bytes)


def summed(*weighted: tuple[HostAdapter, float]) -> HostAdapter:
    by_digest = {adapter.header.digest: adapter for adapter, _ in weighted}
    ref = sum_ref(merge_parts(AdapterPart(ref_of(one), weight) for one, weight in weighted))
    adapters = [by_digest[part.ref.digest] for part in ref.parts]
    builder = SumBuilder(ref, [one.header for one in adapters])
    for adapter, part in zip(adapters, ref.parts, strict=True):
        builder.add(adapter, part.weight)
    assert builder.adapter.header.digest == ref.digest
    assert len(builder.adapter.payload) == ref.compiled_bytes
    return builder.adapter


def terms_of(adapter: HostAdapter) -> dict[str, dict[str, torch.Tensor]]:
    return {
        site.site: {name: view_of(adapter.payload, view) for name, view in site.terms.items()}
        for site in adapter.header.sites
    }


def factors(rank: int, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(rank, 5, generator=draw).to(dtype),
        "b": torch.randn(7, rank, generator=draw).to(dtype),
    }


def test_factors_are_stacked_and_the_weight_goes_into_b() -> None:
    one, two = factors(3, seed=1), factors(2, seed=2)
    terms = terms_of(
        summed((host_adapter("x", {"q": one}), 0.5), (host_adapter("y", {"q": two}), -2.0))
    )["q"]
    assert torch.equal(terms["a"], torch.cat([one["a"], two["a"]]))
    assert torch.equal(terms["b"], torch.cat([0.5 * one["b"], -2.0 * two["b"]], dim=1))


def test_a_site_of_one_part_alone_keeps_that_parts_rank() -> None:
    one, two = factors(3, seed=1), factors(2, seed=2)
    terms = terms_of(
        summed((host_adapter("x", {"q": one}), 1.0), (host_adapter("y", {"v": two}), 1.0))
    )
    assert torch.equal(terms["q"]["a"], one["a"])
    assert torch.equal(terms["v"]["b"], two["b"])


def test_biases_are_summed_also_where_only_one_part_has_them() -> None:
    one, two = torch.randn(7), torch.randn(7)
    terms = terms_of(
        summed(
            (host_adapter("x", {"q": {**factors(1, 1), "d": one}, "v": factors(1, 2)}), 0.5),
            (host_adapter("y", {"q": {"d": two}, "v": {**factors(2, 3), "d": two}}), 4.0),
        )
    )
    torch.testing.assert_close(terms["q"]["d"], 0.5 * one + 4.0 * two)
    torch.testing.assert_close(terms["v"]["d"], 4.0 * two)
    assert terms["q"]["a"].shape == (1, 5)
    assert terms["v"]["a"].shape == (3, 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_weight_of_one_keeps_every_bit_and_others_round_once(dtype: torch.dtype) -> None:
    one, two = factors(3, 1, dtype), factors(2, 2, dtype)
    terms = terms_of(
        summed((host_adapter("x", {"q": one}), 1.0), (host_adapter("y", {"q": two}), 1 / 3))
    )["q"]
    assert terms["b"].dtype == dtype
    assert torch.equal(terms["b"][:, :3], one["b"])
    assert torch.equal(terms["b"][:, 3:], (two["b"].float() * (1 / 3)).to(dtype))


def test_a_weight_that_leads_out_of_the_dtype_is_refused() -> None:
    huge = {name: tensor * 6e3 for name, tensor in factors(2, 1, torch.float16).items()}
    with pytest.raises(InvalidRequest, match="does not fit into float16") as caught:
        summed((host_adapter("x", {"q": huge}), 100.0))
    assert caught.value.param == "adapters"


@pytest.mark.parametrize("term", ["c", "scale", "rows"])
def test_other_terms_are_never_dropped(term: str) -> None:
    odd = host_adapter("y", {"q": {**factors(2, 2), term: torch.ones(7)}})
    with pytest.raises(AdapterLoadFailed, match="more than low-rank"):
        summed((host_adapter("x", {"q": factors(1, 1)}), 1.0), (odd, 0.5))


@pytest.mark.parametrize("what", ["tables", "parameters", "layer"])
def test_tables_and_modules_are_never_dropped(what: str) -> None:
    plain = host_adapter("x", {"q": factors(1, 1)})
    view = plain.header.sites[0].terms["a"]
    changes = {
        "tables": {"tables": {"prefix.0.key": view}},
        "parameters": {"sites": (SiteTerms("q", parameters={"weight": view}),)},
        "layer": {"sites": (SiteTerms("q", layer={"module": "some"}),)},
    }
    odd = HostAdapter(replace(plain.header, digest="y", **changes[what]), plain.payload)
    with pytest.raises(AdapterLoadFailed, match="more than low-rank"):
        summed((plain, 1.0), (odd, 0.5))


def test_parts_of_another_base_do_not_mix() -> None:
    wide = {"a": torch.ones(2, 6), "b": torch.ones(7, 2)}
    with pytest.raises(AdapterLoadFailed, match="different bases"):
        summed(
            (host_adapter("x", {"q": factors(1, 1)}), 1.0), (host_adapter("y", {"q": wide}), 1.0)
        )
