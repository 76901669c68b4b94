"""Every kind, compiled and served, equals what peft computes; popular kinds come to terms."""

import pytest

from service.compiler.tuners.kinds.registry import UNSERVABLE
from tests.compiler.tuners.bench import TOLERANCE, Bench
from tests.contract.kind_variants import KIND_VARIANTS

pytestmark = pytest.mark.filterwarnings("ignore")

AS_LAYER = {
    "boft", "boft-butterfly", "c3a", "deft", "fourierft", "frod", "glora", "gralora", "hira",
    "miss-bat", "osf", "peanut", "psoft", "randlora", "shira", "supertuning", "waveft",
}  # fmt: skip
"""Served through peft's own layer; all others as terms."""
SERVED = [name for name, one in KIND_VARIANTS.items() if one.peft_type not in UNSERVABLE]


@pytest.mark.parametrize("name", SERVED)
def test_the_engine_equals_peft(bench: Bench, name: str) -> None:
    folder = bench.make(name)
    compiled = bench.compile(folder)
    assert compiled.manifest is not None
    assert compiled.manifest.form == ("module" if name in AS_LAYER else "terms")
    expected = bench.oracle_logits(folder)
    assert (bench.logits(compiled) - expected).abs().max() < TOLERANCE
    assert (expected - bench.oracle_logits(None)).abs().max() > 100 * TOLERANCE
