"""Every kind in one batch in bfloat16, where terms, tables and peft's layers have dtypes of their
own: nothing fails, and each adapter is as near to float32 as the base alone is."""

import pytest
import torch

from service.model.loader import LoadOptions, load_base
from tests.contract.bench import KERNELS, Bench
from tests.contract.compiling import CompiledFolders
from tests.contract.harness import Budgets, Harness
from tests.contract.test_mixed_batch import ROOMY, add
from tests.contract.variants import EVERY, WITH_EVERYTHING


@pytest.fixture
def narrow(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The same adapters, compiled for the same base in bfloat16."""
    if bench.cells.keys() != set(EVERY) or bench.architecture not in WITH_EVERYTHING:
        pytest.skip("shown where there is every kind")
    base = load_base(
        LoadOptions(
            str(bench.folder),
            device=str(bench.base.model.device),
            dtype="bfloat16",
            native_folder=KERNELS,
            packs_weights=True,
        )
    )
    made = Bench(
        bench.architecture,
        bench.folder,
        base,
        CompiledFolders(base, tmp_path_factory.mktemp("work")),
        bench.targets,
    )
    made.oracles, made.folders = bench.oracles, bench.folders
    made.adapters = {name: made.source.add(name, bench.folders[name]) for name in bench.adapters}
    return made


def test_every_kind_is_as_near_to_float32_as_the_base(narrow: Bench) -> None:
    run = Harness(narrow.base, narrow.source, Budgets(**ROOMY, prefix_cache=False))
    variants = [None] * 4 + [*narrow.adapters] * 2
    plan = [
        (add(narrow, run, variant, number, max_tokens=6), variant)
        for number, variant in enumerate(variants)
    ]
    run.run()
    run.close()
    errors: dict[str | None, float] = {}
    for request_id, variant in plan:
        error = relative_error(narrow, run, request_id, variant)
        errors[variant] = max(error, errors.get(variant, 0.0))
    base = errors.pop(None)
    assert 0 < base < 0.03
    assert {name: error for name, error in errors.items() if not error < 4 * base} == {}


def relative_error(bench: Bench, run: Harness, request_id: str, variant: str | None) -> float:
    """Of the logits, root mean square over those of float32."""
    prompt, outputs = run.prompts[request_id], run.outcomes[request_id].token_ids
    ids = [*prompt, *outputs[:-1]]
    expected = bench.oracle(variant).logits(ids, len(prompt), run.tasks[request_id])
    end = run.num_front[request_id] + len(ids)
    rows = run.lane.logits[request_id]
    actual = torch.stack([rows[position] for position in range(end - len(expected), end)])
    return ((actual.float() - expected).std() / expected.std()).item()
