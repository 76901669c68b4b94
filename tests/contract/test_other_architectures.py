"""LoRA on architectures that are no relatives of Llama, in the lane that each of them has."""

from pathlib import Path

import pytest

from tests.contract.architectures import ARCHITECTURES
from tests.contract.conftest import Bench, make_bench
from tests.contract.harness import Budgets, Harness
from tests.contract.test_mixed_batch import TOLERANCE, assert_equals_oracle, prompts

pytestmark = pytest.mark.filterwarnings("ignore")
OTHERS = [name for name, one in ARCHITECTURES.items() if not one.is_llama_like]


@pytest.fixture(scope="module", params=OTHERS)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(request.param, "cpu", tmp_path_factory.mktemp(request.param))


def test_every_linear_module_of_the_table_carries_adapters(bench: Bench) -> None:
    known = ARCHITECTURES[Path(bench.folder).name]
    sites = {one.path.rpartition(".")[2] for one in bench.base.description.sites}
    assert {*known.linears, "lm_head"} <= sites


def test_only_the_logits_that_the_engine_asks_for_give_the_same_tokens(bench: Bench) -> None:
    """The other tests want those of every row, which hides which rows a head with an adapter sees;
    here most rows of a chunk want none."""
    run = Harness(bench.base, bench.source, Budgets(num_blocks=100, max_num_seqs=8))
    run.lane.run = run.lane._lane.run
    variants = [None, *bench.adapters]
    plan = []
    for variant, prompt in zip(variants, prompts(len(variants), 8), strict=True):
        ref = bench.adapters.get(variant or "")
        plan.append((run.add([*prompt, *prompt], ref, max_tokens=6), variant))
    run.run()
    run.close()
    for request_id, variant in plan:
        prompt, outputs = run.prompts[request_id], run.outcomes[request_id].token_ids
        logits = bench.oracle(variant).logits([*prompt, *outputs[:-1]])[len(prompt) - 1 :]
        for token_id, row in zip(outputs, logits, strict=True):
            assert row.max() - row[token_id] < TOLERANCE


def test_mixed_and_preempted_sequences_equal_peft_solo(bench: Bench) -> None:
    run = Harness(bench.base, bench.source, Budgets(num_blocks=30, max_num_seqs=8))
    variants = [None, *bench.adapters]
    plan = []
    for number, prompt in enumerate(prompts(2 * len(variants), 6)):
        variant = variants[number % len(variants)]
        ref = bench.adapters.get(variant or "")
        plan.append((run.add(prompt, ref, max_tokens=14), variant))
        run.step()
    run.run()
    run.close()
    assert_equals_oracle(bench, run, plan)
    assert run.lane.most_adapters_in_step >= 4
    assert run.engine.stats.num_preemptions > 0
