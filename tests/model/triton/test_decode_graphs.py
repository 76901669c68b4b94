"""Decode steps repeated from a capture give each sequence what peft computes for it alone."""

import pytest

from service.core import NO_SLOT
from service.model import loader
from service.model.kernels import Kernels
from service.model.lanes.build import GraphOptions
from service.model.triton import attention, decode_graphs
from service.model.triton.decode_graphs import CudaCapture, DecodeGraphs
from service.model.triton.library import load_triton
from service.step import Step
from tests.contract.bench import Bench, make_bench
from tests.contract.harness import Budgets, Harness
from tests.contract.test_mixed_batch import assert_equals_oracle
from tests.model.triton import tape
from tests.model.triton.kernels import DEVICE, HAS_GPU

VARIANTS = ("plain", "dora", "rslora", "ia3")


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    found = load_triton(loader.resolve_dtype("float32", DEVICE), DEVICE)
    assert found is not None
    if not HAS_GPU:
        tape.make_recorded(found.terms, "add_to")
        tape.make_recorded(found.attention, "write_and_attend")
    return found


@pytest.fixture(scope="module")
def bench(kernels: Kernels, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "_load_kernels", lambda *_: kernels)
        return make_bench("llama", DEVICE.type, tmp_path_factory.mktemp("graphs"), VARIANTS)


def test_mixed_adapters_are_exact_in_captured_steps(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences and adapters come and go between steps, one of a kind that no kernel knows."""
    taken: list[tuple[int, bool]] = []
    run_graph = DecodeGraphs.run

    def counted(self: DecodeGraphs, step: Step) -> object:
        taken.append((len(step.token_ids), max(step.row_slot) != NO_SLOT))
        return run_graph(self, step)

    monkeypatch.setattr(DecodeGraphs, "run", counted)
    if not HAS_GPU:  # In the interpreter every program costs.
        monkeypatch.setattr(attention, "_splits", lambda num_tiles, kv_heads: 1)
    capture = CudaCapture() if HAS_GPU else tape.capture
    budgets = Budgets(max_num_seqs=2)
    harness = Harness(bench.base, bench.source, budgets, GraphOptions(capture, 2, 32))
    plan: list[tuple[str, str | None]] = []
    for name, max_tokens in ((None, 9), ("plain", 4), ("dora", 4), ("rslora", 6), ("ia3", 3)):
        adapter = None if name is None else bench.adapters[name]
        prompt = [5 + max_tokens, 9, 11]
        plan.append((harness.add(prompt, adapter, max_tokens=max_tokens), name))
    harness.run()
    # Who is left over at the end of those depends on when each adapter was loaded.
    plan.append((harness.add([7, 9, 11], bench.adapters["plain"], max_tokens=3), "plain"))
    harness.run()
    harness.close()
    assert_equals_oracle(bench, harness, plan)
    assert {(2, True), (1, True)} <= set(taken)


def test_what_cannot_be_captured_runs_as_it_is(bench: Bench) -> None:
    def refusing(run: object) -> object:
        raise RuntimeError("a tensor was looked at")

    harness = Harness(bench.base, bench.source, Budgets(), GraphOptions(refusing, 3, 48))
    plan = [(harness.add([5, 9, 11], bench.adapters["plain"], max_tokens=3), "plain")]
    harness.run()
    harness.close()
    assert_equals_oracle(bench, harness, plan)


def test_sizes_waste_few_rows() -> None:
    assert decode_graphs._sizes(1) == [1]
    assert decode_graphs._sizes(4) == [1, 2, 4]
    assert decode_graphs._sizes(20) == [1, 2, 4, 8, 16, 20]
