"""Whatever is asked of the engine in whatever order: nothing is lost, shared, leaked or wrong."""

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.core import AdapterRef, FinishReason, MemoryTier
from service.errors import AdapterLoadFailed, ColdLoadTimeout
from tests.engine.machine import PAGE, Machine, ref

ADAPTERS = [
    ref(0),
    ref(1),
    ref(2, 2 * PAGE),
    ref(3, PAGE - 1),
    ref(4, 3 * PAGE),
    ref(5, 9 * PAGE),
    ref(6, num_virtual_tokens=5),
    ref(7, num_virtual_tokens=4, num_tasks=3),
    ref(8, num_prefix_tokens=5),
    ref(9, num_prefix_tokens=4),
    ref(10, invocation_tokens=(10, 11)),
    ref(11, invocation_tokens=(14,)),
]


class AnyOrder(RuleBasedStateMachine):
    @initialize(
        num_blocks=st.integers(8, 17),
        device_pages=st.integers(1, 5),
        host_pages=st.integers(1, 6),
        max_num_seqs=st.integers(1, 6),
        max_num_batched_tokens=st.integers(6, 20),
        max_overtakes=st.integers(0, 3),
        prefix_cache=st.sampled_from([True, True, True, False]),
        chunked_prefill=st.booleans(),
        policy=st.sampled_from(["fair", "fair", "fcfs"]),
        num_loaders=st.integers(1, 4),
        max_copied_bytes=st.integers(1, 4 * PAGE),
    )
    def start(self, host_pages: int, **budgets: object) -> None:
        self.machine = Machine(host_bytes=host_pages * PAGE, **budgets)

    @rule(
        num_prompt=st.integers(1, 15),
        adapter=st.sampled_from([None, *ADAPTERS]),
        task_id=st.integers(0, 2),
        family=st.integers(0, 2),
        max_tokens=st.integers(0, 10),
        scored=st.booleans(),
        tenant=st.sampled_from("ab"),
        priority=st.sampled_from([0, 0, 0, -1, 7]),
        max_cold_s=st.sampled_from([None, None, 0.0, 60.0]),
    )
    def add(
        self,
        num_prompt: int,
        adapter: AdapterRef | None,
        task_id: int,
        family: int,
        max_tokens: int,
        scored: bool,
        tenant: str,
        priority: int,
        max_cold_s: float | None,
    ) -> None:
        self.machine.add(
            num_prompt,
            adapter,
            task_id if adapter and adapter.num_tasks else 0,
            family,
            max_cold_s=max_cold_s,
            max_tokens=max_tokens,
            prompt_logprobs=0 if scored else None,
        )

    @rule(
        adapter=st.sampled_from(ADAPTERS),
        tier=st.sampled_from(["host", "device"]),
        max_cold_s=st.sampled_from([None, 0.0]),
    )
    def warm(self, adapter: AdapterRef, tier: MemoryTier, max_cold_s: float | None) -> None:
        self.machine.warm(adapter, tier, max_cold_s)

    @rule(adapters=st.lists(st.sampled_from(ADAPTERS[:4]), max_size=2, unique=True))
    def pin(self, adapters: list[AdapterRef]) -> None:
        """Within half of the memory, as it is everywhere."""
        half = self.machine.budgets.host_bytes // 2
        if sum(one.compiled_bytes for one in adapters) <= half:
            self.machine.pin(*adapters)

    @rule()
    def step(self) -> None:
        self.machine.step()

    @rule()
    def several_steps(self) -> None:
        for _ in range(5):
            self.machine.step()

    @precondition(lambda self: self.machine.open_ids)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        self.machine.abort(data.draw(st.sampled_from(self.machine.open_ids)))

    @precondition(lambda self: self.machine.loader.pending)
    @rule(data=st.data(), fails=st.sampled_from([False, False, True]))
    def finish_load(self, data: st.DataObject, fails: bool) -> None:
        digest = data.draw(st.sampled_from(sorted(self.machine.loader.pending)))
        self.machine.finish_load(digest, AdapterLoadFailed("no") if fails else None)

    @rule(adapter=st.sampled_from(ADAPTERS))
    def unload(self, adapter: object) -> None:
        self.machine.unload(adapter.digest)

    @invariant()
    def holds(self) -> None:
        self.machine.check()

    def teardown(self) -> None:
        if not hasattr(self, "machine"):
            return
        self.machine.run()
        self.machine.check_empty()
        self.machine.check_outputs()
        for outcome in self.machine.outcomes.values():
            if outcome.finish_reason is FinishReason.ERROR and outcome.request.max_cold_s == 0:
                assert isinstance(outcome.error, AdapterLoadFailed | ColdLoadTimeout)
            elif outcome.finish_reason is FinishReason.ERROR:
                assert isinstance(outcome.error, AdapterLoadFailed)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
