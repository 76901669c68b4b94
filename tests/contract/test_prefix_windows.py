"""Learned keys and values in front of layers that see only a window, also when the prefix is longer
than the window: rows see them as peft's do."""

from pathlib import Path

import pytest

from tests.contract.bench import Bench, make_bench
from tests.contract.harness import Budgets, Harness
from tests.contract.kind_variants import KindVariant, make_kind
from tests.contract.oracle import Oracle
from tests.contract.test_mixed_batch import assert_equals_oracle, prompts

WINDOWED = ("mistral", "gemma2", "gemma3", "phi3")
LENGTHS = (1, 8, 9, 10, 25)
"""Around the window of 9, and far beyond it."""


@pytest.fixture(scope="module", params=WINDOWED)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = make_bench(request.param, "cpu", tmp_path_factory.mktemp(request.param), ["plain"])
    for length in LENGTHS:
        for peft_type in ("PREFIX_TUNING", "CARTRIDGE"):
            add_prefix(made, peft_type, length)
    return made


def add_prefix(bench: Bench, peft_type: str, length: int) -> None:
    name = f"{peft_type}-{length}"
    variant = KindVariant(peft_type, lambda _: {"num_virtual_tokens": length}, spread=0.5)
    folder = make_kind(bench.folder, variant, bench.folder.parent / name, seed=length)
    bench.adapters[name] = bench.source.add(name, folder)
    bench.oracles[name] = Oracle(bench.folder, folder)


def test_prefixes_shorter_and_longer_than_a_window(bench: Bench, tmp_path: Path) -> None:
    run = Harness(bench.base, bench.source, Budgets(num_blocks=60, device_bytes=1 << 22))
    variants = [*bench.adapters] * 2
    plan = [
        (run.add(prompt, bench.adapters[name], max_tokens=14), name)
        for prompt, name in zip(prompts(len(variants), 6), variants, strict=True)
    ]
    run.run()
    run.close()
    assert_equals_oracle(bench, run, plan)
    assert {bench.adapters[name].num_prefix_tokens for name in variants} == {0, *LENGTHS}
