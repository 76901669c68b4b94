"""Kinds on a base that runs in bfloat16, where rounding shows in the base itself."""

from pathlib import Path

import pytest

from service.errors import AdapterRefused
from tests.compiler.tuners.bench import Bench, make_bench
from tests.compiler.tuners.test_kinds import SERVED
from tests.contract.kind_variants import KIND_VARIANTS
from tests.contract.quantised import train
from tests.contract.targets import LLAMA

pytestmark = pytest.mark.filterwarnings("ignore")

FACTOR = 3
"""Times what the base alone shows on the same prompt."""
LEAST = 0.05
"""A few rows of the base may come off well by chance."""
COUNT_ON_AUTOCAST = ["ia3", "pvera", "randlora", "road-1"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tmp_path_factory.mktemp("bf16"), "llama/bfloat16", run_dtype="bfloat16")


@pytest.fixture(scope="module", params=["nf4", "int8"])
def rounded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp(request.param)
    return make_bench(root, "llama/bfloat16", request.param, "bfloat16")


def allowed(bench: Bench) -> float:
    noise = (bench.logits(None) - bench.oracle_logits(None)).abs().max().item()
    return FACTOR * max(noise, LEAST)


@pytest.mark.parametrize("name", SERVED)
def test_the_engine_is_as_near_to_peft_as_the_base_alone(bench: Bench, name: str) -> None:
    folder = bench.make(name)
    assert bench.difference(bench.compile(folder), folder) < allowed(bench)


@pytest.mark.parametrize("name", ["lora-embedding-head", "lora-tokens", "miss", "hira", "prefix"])
def test_so_it_is_on_a_base_in_few_bits(rounded: Bench, name: str) -> None:
    folder = make(rounded, name)
    assert rounded.difference(rounded.compile(folder), folder) < allowed(rounded)


@pytest.mark.parametrize("name", COUNT_ON_AUTOCAST)
def test_what_peft_runs_there_only_under_autocast_is_refused(rounded: Bench, name: str) -> None:
    folder = make(rounded, name)
    with pytest.raises(RuntimeError, match="same dtype"):
        rounded.oracle_logits(folder)
    with pytest.raises(AdapterRefused, match=r"answers in float32 .* serve the base in float32"):
        rounded.compile(folder)


def make(bench: Bench, name: str) -> Path:
    variant = KIND_VARIANTS[name]
    quantization = bench.base.description.quantization
    return train(
        bench.folder, quantization, variant.peft_type, bench.new_folder(), variant.spread,
        **variant.fields(LLAMA),
    )  # fmt: skip
