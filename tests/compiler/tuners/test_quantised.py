"""Kinds on a base in 4 or 8 bits: peft's own layers for it are read, or refused for its reason."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from service.adapters.limits import AdapterLimits
from service.compiler.compile import run_job
from service.compiler.job import Job
from service.errors import AdapterRefused
from tests.compiler.tuners.bench import PROBE, TOLERANCE, Bench, fresh, make_bench
from tests.contract.kind_variants import KIND_VARIANTS
from tests.contract.quantised import train
from tests.contract.targets import LLAMA

pytestmark = pytest.mark.filterwarnings("ignore")

TERMS = ["adalora", "alora", "boft", "lora-saved-head", "miss", "pvera", "road-2", "vera"]
LAYERS = ["hira", "randlora"]
DORA = {"r": 4, "use_dora": True, "target_modules": ["q_proj", "down_proj"]}
Make = Callable[..., Path]


@pytest.fixture(scope="module", params=["nf4", "int8"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tmp_path_factory.mktemp(request.param), quantization=request.param)


@pytest.fixture
def make(bench: Bench) -> Make:
    def run(name: str, **changed: object) -> Path:
        variant = KIND_VARIANTS[name]
        fields = variant.fields(LLAMA) | changed
        quantization = bench.base.description.quantization
        return train(
            bench.folder, quantization, variant.peft_type, bench.new_folder(), variant.spread,
            **fields,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("name", TERMS + LAYERS)
def test_the_engine_equals_peft(bench: Bench, make: Make, name: str) -> None:
    folder = make(name)
    compiled = bench.compile(folder)
    assert compiled.manifest is not None
    assert compiled.manifest.form == ("module" if name in LAYERS else "terms")
    expected = bench.oracle_logits(folder)
    assert (bench.logits(compiled) - expected).abs().max() < TOLERANCE
    assert (expected - bench.oracle_logits(None)).abs().max() > 100 * TOLERANCE


def test_the_second_attention_is_projected_only_where_inputs_are_not_rounded(
    bench: Bench, make: Make
) -> None:
    folder = make("adaption-prompt")
    if bench.base.description.quantization == "int8":
        with pytest.raises(AdapterRefused, match="inputs are rounded"):
            bench.compile(folder)
    else:
        assert bench.difference(bench.compile(folder), folder) < TOLERANCE


@pytest.mark.parametrize("name", ["delora", "glora"])
def test_what_peft_cannot_build_on_such_a_base_is_refused(bench: Bench, name: str) -> None:
    """Made on the base in full, as somebody may who does not know."""
    with pytest.raises(AdapterRefused, match="peft cannot build it on a base in 8 or 4 bits"):
        bench.compile(bench.make(name))


def test_what_peft_builds_but_cannot_run_is_refused(bench: Bench) -> None:
    with pytest.raises(AdapterRefused, match=r"cannot run its own layer|differ from peft"):
        bench.compile(bench.make("hra"))


def test_a_module_in_few_bits_cannot_be_replaced(bench: Bench) -> None:
    folder = bench.make("lora-saved-head", modules_to_save=["o_proj"])
    with pytest.raises(AdapterRefused, match="no other weight can take its place"):
        bench.compile(folder)


def test_only_dora_needs_the_base_to_be_loaded(bench: Bench) -> None:
    quantization = bench.base.description.quantization
    for use_dora in (False, True):
        fields = DORA | {"use_dora": use_dora}
        folder = train(bench.folder, quantization, "LORA", bench.new_folder(), **fields)
        work = bench.new_folder()
        result = run_job(
            Job(str(folder), str(work), bench.base.description, AdapterLimits(), False)
        )
        assert result.needs_peft is use_dora


def test_peft_can_run_dora_again_and_again(bench: Bench) -> None:
    """In 8 bits peft alone could not: it loses the scales of a weight that it has read."""
    quantization = bench.base.description.quantization
    folder = train(bench.folder, quantization, "LORA", bench.new_folder(), **DORA)
    model = PeftModel.from_pretrained(fresh(bench.peft_base).model, folder).eval()
    ids = torch.tensor([PROBE])
    with torch.no_grad():
        first, second, third = (model(ids).logits[0] for _ in range(3))
    assert torch.equal(first, second)
    assert torch.equal(second, third)
    assert (first - bench.oracle_logits(folder)).abs().max() < TOLERANCE


def test_serving_writes_nothing_into_the_base(bench: Bench, make: Make) -> None:
    """peft's own layers read its weights; DoRA's terms would show what they left behind."""
    before = checksum(bench.base.model)
    dora = train(
        bench.folder, bench.base.description.quantization, "LORA", bench.new_folder(), **DORA
    )
    expected = bench.logits(bench.compile(dora))
    for name in LAYERS:
        bench.logits(bench.compile(make(name)))
    assert checksum(bench.base.model) == before
    assert torch.equal(bench.logits(bench.compile(dora)), expected)


def checksum(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if tensor.numel():
            digest.update(name.encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
