"""What a request is bound to, and that whatever was taken is given back once."""

from collections import Counter

import pytest

from service.core import AdapterRef
from service.errors import InvalidRequest, ModelNotFound
from service.handlers.binding import AdapterBinder, Summand
from service.tenancy import ANYONE
from tests.fakes import FakeRegistry, adapter_ref

ALPHA, BETA = adapter_ref("alpha", 1, is_summable=True), adapter_ref("beta", 2, is_summable=True)
COPY = AdapterRef("copy", 1, ALPHA.digest, ALPHA.compiled_bytes, is_summable=True)
DORA = adapter_ref("dora", 9)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry(ALPHA, BETA, COPY, DORA)


@pytest.fixture
def binder(registry: FakeRegistry) -> AdapterBinder:
    return AdapterBinder("tiny", registry)


def held(registry: FakeRegistry) -> Counter[str]:
    counts = Counter(ref.digest for ref in registry.acquired)
    counts.subtract(ref.digest for ref in registry.released)
    return +counts


def test_one_name_is_one_version(binder: AdapterBinder, registry: FakeRegistry) -> None:
    assert binder.acquire("tiny", principal=ANYONE) is None
    assert (
        binder.acquire("alpha", principal=ANYONE)
        == binder.acquire("tiny:alpha@1", principal=ANYONE)
        == ALPHA
    )
    binder.release(None)
    binder.release(ALPHA)
    assert held(registry) == {ALPHA.digest: 1}


def test_a_sum_holds_every_part_once(binder: AdapterBinder, registry: FakeRegistry) -> None:
    ref = binder.acquire(
        "tiny", [Summand("tiny:beta", 0.5), Summand("alpha@1", -2.0)], principal=ANYONE
    )
    assert ref is not None
    assert [(part.ref, part.weight) for part in ref.parts] == [(ALPHA, -2.0), (BETA, 0.5)]
    assert held(registry) == {ALPHA.digest: 1, BETA.digest: 1}
    binder.release(ref)
    assert held(registry) == {}


def test_a_content_that_is_named_twice_is_one_part(
    binder: AdapterBinder, registry: FakeRegistry
) -> None:
    ref = binder.acquire(
        "tiny", [Summand("alpha", 0.5), Summand("copy", 1), Summand("beta", 1)], principal=ANYONE
    )
    assert ref is not None
    assert [part.weight for part in ref.parts] == [1.5, 1]
    assert held(registry) == {ALPHA.digest: 1, BETA.digest: 1}
    binder.release(ref)
    assert held(registry) == {}


@pytest.mark.parametrize("name", ["alpha", "dora"])
def test_one_adapter_of_weight_one_is_the_adapter_itself(
    binder: AdapterBinder, registry: FakeRegistry, name: str
) -> None:
    """Of any kind: nothing is scaled."""
    ref = binder.acquire("tiny", [Summand(name, 1.0)], principal=ANYONE)
    assert ref in (ALPHA, DORA)
    binder.release(ref)
    assert held(registry) == {}


def test_halves_of_one_adapter_are_the_adapter_itself(
    binder: AdapterBinder, registry: FakeRegistry
) -> None:
    ref = binder.acquire("tiny", [Summand("alpha", 0.5), Summand("copy", 0.5)], principal=ANYONE)
    assert ref == ALPHA
    binder.release(ref)
    assert held(registry) == {}


@pytest.mark.parametrize(
    ("model", "names", "said"),
    [
        ("alpha", ["beta", "alpha"], "'tiny'"),
        ("nobody", ["alpha"], "'tiny'"),
        ("tiny", ["alpha", "tiny"], "'tiny' is the base"),
        ("tiny", ["alpha", "beta", "dora"], "'dora@9'"),
        ("tiny", ["dora"], "'dora@9'"),
    ],
)
def test_what_cannot_be_summed_is_refused_and_takes_nothing(
    binder: AdapterBinder, registry: FakeRegistry, model: str, names: list[str], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        binder.acquire(model, [Summand(name, 2.0) for name in names], principal=ANYONE)
    assert caught.value.param == "adapters"
    assert held(registry) == {}


def test_an_unknown_part_is_named_and_takes_nothing(
    binder: AdapterBinder, registry: FakeRegistry
) -> None:
    with pytest.raises(ModelNotFound, match="'tiny:nobody@3'") as caught:
        binder.acquire("tiny", [Summand("alpha", 1), Summand("tiny:nobody@3", 1)], principal=ANYONE)
    assert caught.value.param == "adapters"
    assert held(registry) == {}
