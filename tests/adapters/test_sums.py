"""A weighted sum has one identity, whoever spells it and however."""

import itertools

import pytest

from service.adapters.sums import merge_parts, sum_ref
from service.core import AdapterPart, AdapterRef


def part(name: str, weight: float, digest: str = "") -> AdapterPart:
    return AdapterPart(AdapterRef(name, 1, digest or name * 64, compiled_bytes=100), weight)


def digest_of(*parts: AdapterPart) -> str:
    return sum_ref(merge_parts(parts)).digest


def test_order_and_names_do_not_matter() -> None:
    a, b, c = part("a", 0.5), part("b", -2.0), part("c", 0.25)
    digests = {digest_of(*order) for order in itertools.permutations([a, b, c])}
    digests.add(digest_of(part("other", 0.5, "a" * 64), b, c))
    assert len(digests) == 1


def test_weights_of_one_content_are_added() -> None:
    merged = merge_parts([part("a", 0.5), part("b", 1.0), part("copy", 0.25, "a" * 64)])
    assert [(one.ref.name, one.weight) for one in merged] == [("a", 0.75), ("b", 1.0)]


@pytest.mark.parametrize("weight", [0.50000000000000011, -0.5, 0.0, 1.0])
def test_every_weight_is_another_sum(weight: float) -> None:
    assert digest_of(part("a", weight), part("b", 1)) != digest_of(part("a", 0.5), part("b", 1))


def test_whose_weight_it_is_matters() -> None:
    assert digest_of(part("a", 2), part("b", 3)) != digest_of(part("a", 3), part("b", 2))


def test_the_two_zeros_are_one() -> None:
    assert digest_of(part("a", 0.0)) == digest_of(part("a", -0.0))


def test_a_sum_is_a_version_without_a_number() -> None:
    ref = sum_ref(merge_parts([part("b", -1.0), part("a", 0.5)]))
    assert (ref.label, ref.version) == ("0.5*a@1 + -1*b@1", 0)
    assert ref.digest not in {one.ref.digest for one in ref.parts}
    assert len(bytes.fromhex(ref.digest)) == 32
    assert ref.compiled_bytes == 200
