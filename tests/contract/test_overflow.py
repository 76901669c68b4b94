"""An adapter whose finite weights overflow spoils its own answers and nobody else's."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.contract.bench import Bench, make_bench
from tests.contract.harness import Budgets, Harness
from tests.contract.lora_variants import make_adapter
from tests.contract.test_mixed_batch import assert_equals_oracle


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench("llama", "cpu", tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("scale", [1e16, 1e18])
def test_what_overflows_stays_with_its_own_sequence(
    llama: Bench, tmp_path: Path, scale: float
) -> None:
    """Beside it in the batch, and after it in the blocks that it leaves."""
    folder = make_adapter(llama.folder, "all-linear", tmp_path / "huge", 3)
    file = folder / "adapter_model.safetensors"
    save_file({name: tensor * scale for name, tensor in load_file(file).items()}, file)
    huge = llama.source.add(f"huge-{scale}", folder)
    run = Harness(llama.base, llama.source, Budgets(num_blocks=24, max_num_seqs=4))
    try:
        beside = run.add([7, 8, 9], llama.adapters["rslora"], max_tokens=12)
        for temperature in (0.0, 1.0):
            run.add([*range(5, 25)], huge, max_tokens=8, temperature=temperature, logprobs=1)
        run.run()
        after = [
            (run.add([*range(5, 12)], None, max_tokens=12), None),
            (run.add([*range(9, 40)], llama.adapters["dora"], max_tokens=12), "dora"),
            (run.add([4], llama.adapters["plain"], max_tokens=12), "plain"),
        ]
        run.run()
        assert_equals_oracle(llama, run, [(beside, "rslora"), *after])
    finally:
        run.close()
