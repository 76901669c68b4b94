"""Every kind, compiled and served, equals what peft computes; popular kinds come to terms."""

from collections.abc import Callable

import pytest

from service.compiler.tuners import base
from service.compiler.tuners.kinds.registry import UNSERVABLE
from tests.compiler.tuners.bench import TOLERANCE, Bench
from tests.contract.kind_variants import KIND_VARIANTS

pytestmark = pytest.mark.filterwarnings("ignore")

AS_LAYER = {
    "c3a", "deft", "fourierft", "frod", "glora", "gralora", "hira",
    "miss-bat", "osf", "peanut", "psoft", "randlora", "shira", "supertuning", "waveft",
}  # fmt: skip
"""Served through peft's own layer; all others as terms."""
SERVED = [name for name, one in KIND_VARIANTS.items() if one.peft_type not in UNSERVABLE]


@pytest.mark.parametrize("name", SERVED)
def test_the_engine_equals_peft(benches: Callable[[str], Bench], name: str) -> None:
    """On a base with biases wherever they may be."""
    bench = benches("biased")
    folder = bench.make(name)
    compiled = bench.compile(folder)
    assert compiled.manifest is not None
    assert compiled.manifest.form == ("module" if name in AS_LAYER else "terms")
    expected = bench.oracle_logits(folder)
    assert (bench.logits(compiled) - expected).abs().max() < TOLERANCE
    assert (expected - bench.oracle_logits(None)).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("name", SERVED)
def test_a_base_in_bfloat16_that_is_served_in_float32(
    benches: Callable[[str], Bench], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What peft derives from base weights, and the copies that it keeps, are float32's.

    Nothing but norms and biases counts as small here, as on a base of a real size.
    """
    monkeypatch.setattr(base, "_SMALL", 100)
    bench = benches("llama/bfloat16")
    folder = bench.make(name)
    assert bench.difference(bench.compile(folder), folder) < TOLERANCE
