"""No upload changes the base: not the one that the forks of the compile server start from, not the
files, and not the one that the engine serves."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from service.adapters.limits import AdapterLimits
from service.compiler.compile_server import CompileServer
from service.compiler.launcher import ChildCompiler
from service.compiler.tuners import config
from service.compiler.tuners.kinds.registry import UNSERVABLE
from service.errors import AdapterRefused
from tests.compiler.tuners.bench import PROBE, Bench
from tests.contract.compiling import CompiledFolders
from tests.contract.harness import Budgets, Harness
from tests.contract.kind_variants import KIND_VARIANTS, KindVariant

pytestmark = pytest.mark.filterwarnings("ignore")

SERVED = [name for name, one in KIND_VARIANTS.items() if one.peft_type not in UNSERVABLE]
WRITERS: dict[str, dict[str, Any]] = {
    "pissa": {"init_lora_weights": "pissa"},
    "pissa by iteration": {"init_lora_weights": "pissa_niter_4"},
    "olora": {"init_lora_weights": "olora"},
    "kasa": {"kasa_config": {"beta": 1e-3}},
    "all biases": {"bias": "all"},
    "own biases": {"bias": "lora_only", "use_dora": True},
}
"""What peft loads onto a base that it changes; embeddings as targets make it peft's to read."""


def writer(name: str) -> KindVariant:
    fields = {"r": 4, "target_modules": ["q_proj", "embed_tokens"]} | WRITERS[name]
    if "kasa_config" in fields:  # not for embeddings
        fields |= {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}
    return KindVariant("LORA", lambda _: fields)


def checksum(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def files(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture
def bench(benches: Callable[[str], Bench]) -> Bench:
    return benches("biased")


@pytest.fixture
def forks(bench: Bench) -> CompiledFolders:
    source = CompiledFolders(bench.base, bench.new_folder())
    source._peft_base = bench.peft_base
    return source


def test_by_no_kind_that_is_compiled_and_served(bench: Bench, forks: CompiledFolders) -> None:
    models = (bench.peft_base.model, bench.base.model)
    before = [checksum(model) for model in models]
    on_disk = files(bench.folder)
    refs = {name: forks.add(name, bench.make(name)) for name in SERVED}
    run = Harness(bench.base, forks, Budgets(num_blocks=400, device_bytes=8 << 20))
    try:
        for ref in refs.values():
            run.add(PROBE, ref, max_tokens=2)
        run.run()
    finally:
        run.close()
    assert [checksum(model) for model in models] == before
    assert files(bench.folder) == on_disk


@pytest.mark.parametrize("name", WRITERS)
def test_by_nothing_that_peft_loads_onto_a_base_that_it_changes(
    bench: Bench, forks: CompiledFolders, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also where the config is not looked at: then the change itself is seen, and refused."""
    before, on_disk = checksum(bench.peft_base.model), files(bench.folder)
    folder = bench.make(writer(name))
    is_served = "bias" in WRITERS[name]
    for looked_at in (True, False):
        if not looked_at:
            monkeypatch.setattr(config, "check_fields", lambda *_: None)
        codes = set()
        try:
            forks.add(f"{name} {looked_at}", folder)
        except AdapterRefused as error:
            codes = {one.code for one in error.refusals}
        wanted = {"unconverted_init", "unsupported_field"} if looked_at else {"changes_base"}
        assert codes <= wanted
        assert bool(codes) != is_served
        assert checksum(bench.peft_base.model) == before
        assert files(bench.folder) == on_disk


def test_what_comes_after_is_as_from_a_fresh_process(bench: Bench) -> None:
    """DoRA's norms are the base's: a residue of PiSSA in it would be a factor on every output."""
    dora = bench.make("lora-dora-embedding")
    server = CompileServer(bench.folder)
    compiler = ChildCompiler(bench.base.description, AdapterLimits(), server)
    try:
        fresh = compiler.compile(dora, bench.new_folder()).compiled.read_bytes()
        with pytest.raises(AdapterRefused):
            compiler.compile(bench.make(writer("pissa")), bench.new_folder())
        for name in ("all biases", "own biases"):
            compiler.compile(bench.make(writer(name)), bench.new_folder())
        assert compiler.compile(dora, bench.new_folder()).compiled.read_bytes() == fresh
    finally:
        server.close()
