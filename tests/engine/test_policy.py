"""Whose turn it is: policies alone, then the scheduler that follows them."""

import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings, strategies as st

from service.core import FinishReason, GenerationRequest, SamplingParams
from service.engine.policy import FairShare, SchedulingPolicy, scheduling_policy
from service.engine.sequence import Sequence
from service.engine.waiting import WaitingQueue
from tests.engine.machine import PAGE, Machine, ref

MAX_PROMPT, MAX_TOKENS = 12, 6


def sequence(
    number: int,
    tenant: str = "t",
    adapter: int | None = None,
    priority: int = 0,
    num_prompt: int = 4,
    max_tokens: int = 4,
) -> Sequence:
    request = GenerationRequest(
        f"r{number}",
        tuple(range(num_prompt)),
        SamplingParams(max_tokens),
        None if adapter is None else ref(adapter),
        tenant=tenant,
        priority=priority,
    )
    return Sequence(request, 0, frozenset(), arrival=number)


class House:
    """A server of `num_places` that generates one token for each place in every step."""

    def __init__(self, policy: SchedulingPolicy, num_places: int) -> None:
        self.policy, self.num_places = policy, num_places
        self.waiting = WaitingQueue(policy)
        self.running: dict[Sequence, int] = {}
        self.served: Counter[str] = Counter()

    def step(self) -> list[Sequence]:
        started = []
        for one in self.waiting.in_order():
            if len(self.running) == self.num_places:
                break
            self.waiting.remove(one)
            self.policy.charge(one, num_prompt=one.num_tokens)
            self.served[one.request.tenant] += one.num_tokens
            self.running[one] = one.request.params.max_tokens
            started.append(one)
        assert len(self.running) == self.num_places or not self.waiting, "no place stays empty"
        for one in list(self.running):
            self.policy.charge(one, num_generated=1)
            self.served[one.request.tenant] += 2
            self.running[one] -= 1
            if not self.running[one]:
                del self.running[one]
        return started


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 5),
    st.integers(1, 12),
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, MAX_PROMPT), st.integers(1, MAX_TOKENS)),
        min_size=1,
    ),
)
def test_while_two_tenants_wait_their_shares_differ_by_a_constant(
    num_places: int, num_rounds: int, shapes: list[tuple[str, int, int]]
) -> None:
    """The paper's bound: what the running sequences can still be charged, and one prompt."""
    house = House(FairShare(), num_places)
    bound = 2 * (num_places * 2 * MAX_TOKENS + MAX_PROMPT)
    drawn: Iterator[int] = iter(range(10**6))
    since: dict[frozenset[str], tuple[int, int]] = {}
    for _ in range(num_rounds):
        for tenant, num_prompt, max_tokens in shapes:
            house.waiting.add(sequence(next(drawn), tenant, None, 0, num_prompt, max_tokens))
        for _ in range(3):
            house.step()
            present = Counter(one.request.tenant for one in house.waiting)
            for pair in map(frozenset, ("ab", "bc", "ac")):
                one, other = sorted(pair)
                if not (present[one] and present[other]):
                    since.pop(pair, None)
                    continue
                now = house.served[one], house.served[other]
                start = since.setdefault(pair, now)
                assert abs((now[0] - start[0]) - (now[1] - start[1])) <= bound


@pytest.mark.parametrize("policy", ["fair", "fcfs"])
def test_more_urgent_goes_first_under_every_policy(policy: str) -> None:
    waiting = WaitingQueue(scheduling_policy(policy))
    for number, priority in enumerate([0, 5, -3, 0, -100, 100]):
        waiting.add(sequence(number, f"t{number}", priority=priority))
    assert [one.request.priority for one in waiting] == [-100, -3, 0, 0, 5, 100]


def test_ten_times_the_load_gets_the_same_share_between_tenants_and_between_adapters() -> None:
    for many, few in ((("a", None), ("b", None)), (("t", 1), ("t", 2))):
        house = House(FairShare(), num_places=8)
        served: Counter[tuple[str, int | None]] = Counter()
        for number in range(11 * 400):
            who = few if number % 11 == 10 else many
            house.waiting.add(sequence(number, *who))
        while sum(served.values()) < 600:
            for one in house.step():
                adapter = int(one.adapter.name[7:]) if one.adapter else None
                served[one.request.tenant, adapter] += 1
        assert abs(served[many] - served[few]) <= 8


def test_adapters_share_within_their_tenant_however_many_a_tenant_has() -> None:
    house = House(FairShare(), num_places=4)
    for number in range(4000):
        tenant, adapter = ("a", number % 20) if number % 2 else ("b", None)
        house.waiting.add(sequence(number, tenant, adapter))
    for _ in range(200):
        house.step()
    assert house.served["a"] == pytest.approx(house.served["b"], rel=0.05)


def test_what_is_unknown_to_a_policy_costs_no_memory_for_ever() -> None:
    policy = FairShare()
    for number in range(20_000):
        one = sequence(number, f"tenant{number}", number)
        policy.wait(one)
        policy.leave(one)
        policy.charge(one, num_prompt=5)
    assert len(policy._tenants) < 1100
    assert len(policy._adapters) < 2100
    for number in range(2000):
        policy.charge(sequence(number, "one", number), num_prompt=5)
    assert len(policy._adapters["one"]) < 300


def test_an_unknown_policy_is_refused_with_the_known_names() -> None:
    with pytest.raises(KeyError, match="fair, fcfs"):
        scheduling_policy("lottery")


@pytest.mark.parametrize("policy", ["fair", "fcfs"])
@pytest.mark.parametrize("rival", ["urgent", "new tenants", "new adapters"])
def test_nobody_starves_whoever_keeps_coming(policy: str, rival: str) -> None:
    machine = Machine(policy=policy, max_num_seqs=2, max_overtakes=8, device_pages=2)
    machine.add(tenant="victim", max_tokens=8)
    machine.run()
    victim = machine.add(tenant="victim", priority=0 if rival != "urgent" else 50)
    for number in range(300):
        tenant = f"rival{number}" if rival == "new tenants" else "victim"
        adapter = ref(number) if rival == "new adapters" else None
        machine.add(2, adapter, tenant=tenant, priority=0, max_tokens=2)
        for digest in list(machine.loader.pending):
            machine.finish_load(digest)
        machine.step()
        if machine.outcomes[victim].finish_reason is not None:
            break
    assert machine.outcomes[victim].finish_reason is FinishReason.LENGTH
    machine.run()
    machine.check_outputs()


def test_a_long_prompt_holds_up_neither_short_ones_of_another_tenant_nor_is_it_held_up() -> None:
    machine = Machine(num_blocks=300, max_num_batched_tokens=16)
    long = machine.add(400, tenant="a", max_tokens=1)
    machine.step()
    for _ in range(8):
        short = machine.add(8, tenant="b", max_tokens=1)
        for _ in range(2):
            machine.step()
        assert machine.outcomes[short].finish_reason is FinishReason.LENGTH
    rows = Counter[str]()
    for step in machine.runner.steps:
        rows.update({one.request_id: one.num_rows for one in step.segments})
    assert rows[long] == 16 * 17 - 8 * 8, "no row was left unused"


def test_the_oldest_prompt_keeps_a_part_of_every_step_whoever_is_more_urgent() -> None:
    machine = Machine(num_blocks=300, max_num_batched_tokens=16, max_num_seqs=16)
    low = machine.add(100, max_tokens=1, priority=9)
    machine.step()
    for number in range(21):
        machine.add(30, tenant=f"t{number}", max_tokens=1, priority=-9)
        machine.step()
    assert machine.outcomes[low].finish_reason is FinishReason.LENGTH


def test_who_has_had_most_gives_way_not_simply_the_youngest() -> None:
    machine = Machine(num_blocks=16, block_size=4, max_num_batched_tokens=64)
    oldest = machine.add(8, tenant="a", max_tokens=40)
    greedy = machine.add(8, tenant="a", max_tokens=40)
    for _ in range(6):
        machine.step()
    young = machine.add(8, tenant="b", max_tokens=40)
    while not machine.engine.stats.num_preemptions:
        machine.step()
    assert [one.request_id for one in machine.scheduler.waiting] == [greedy]
    assert {one.request_id for one in machine.scheduler.running} == {oldest, young}
    machine.run()
    machine.check_outputs()


def test_recomputed_rows_are_not_charged_again_nor_those_found_in_the_cache() -> None:
    machine = Machine(num_blocks=6, block_size=4, max_num_batched_tokens=32)
    for _ in range(2):
        machine.add(7, tenant="a", max_tokens=14)
    machine.run()
    assert machine.engine.stats.num_preemptions > 0
    tenants = machine.scheduler.policy._tenants
    assert tenants.counter("a") == 2 * (7 + 2 * 14)
    machine = Machine()
    for expected in (9 + 2, 9 + 2 + 1 + 2):
        machine.add(9, family=1, tenant="a", max_tokens=1)
        machine.run()
        assert machine.scheduler.policy._tenants.counter("a") == expected, "two blocks are found"


@pytest.mark.parametrize(("limit", "counts"), [(2 * PAGE, [2, 4, 6]), (100 * PAGE, [4, 6, 6])])
def test_a_step_copies_only_so_much_to_the_device_while_streams_run(
    limit: int, counts: list[int]
) -> None:
    machine = Machine(
        device_pages=8, host_bytes=8 * PAGE, max_copied_bytes=limit, max_num_batched_tokens=64,
        max_mixed_prefill_tokens=64,
    )  # fmt: skip
    machine.add(max_tokens=30)
    machine.step()
    for number in range(6):
        machine.add(adapter=ref(number), max_tokens=20)
        machine.finish_load(f"digest{number}")
    found = []
    for _ in counts:
        machine.step()
        found.append(len(machine.pool.slots))
    assert found == counts


@pytest.mark.parametrize("kind", ["tenants", "adapters", "slotless", "no blocks"])
def test_the_cost_of_a_step_stays_small_with_a_thousand_waiting(kind: str) -> None:
    machine = Machine(
        num_blocks=400, max_num_seqs=8 if kind != "no blocks" else 4, host_bytes=2000 * PAGE,
        device_pages=4, max_num_batched_tokens=64, max_overtakes=10**6,
    )  # fmt: skip
    if kind == "slotless":
        for number in range(4):
            machine.add(2, ref(2000 + number), max_tokens=1000)
            machine.finish_load(f"digest{2000 + number}")
        machine.step()
    if kind == "no blocks":
        machine.add(2, max_tokens=1000)
        machine.step()
    for number in range(1000):
        tenant = f"t{number}" if kind == "tenants" else "t"
        adapter = ref(number) if kind in ("adapters", "slotless") else None
        num_prompt = 1596 if kind == "no blocks" else 2
        machine.add(num_prompt, adapter, tenant=tenant, max_tokens=30)
        if adapter is not None:
            machine.finish_load(adapter.digest)
    assert len(machine.scheduler.waiting) == 1000
    seconds = []
    for _ in range(5):
        start = time.process_time()
        step = machine.scheduler.schedule()
        seconds.append(time.process_time() - start)
        machine.pool.apply(machine.residency.take_plan())
        machine.take(machine.scheduler.postprocess(step, machine.runner.run(step)))
    assert min(seconds) < 0.05, "generous: a machine under load"


def test_random_tenants_adapters_and_priorities_all_come_to_their_ends() -> None:
    draw = random.Random(5)
    machine = Machine(num_blocks=12, max_overtakes=2, host_bytes=3 * PAGE, device_pages=2)
    for _ in range(60):
        machine.add(
            draw.randrange(1, 12),
            draw.choice([None, ref(1), ref(2, 2 * PAGE), ref(3)]),
            tenant=draw.choice("abc"),
            priority=draw.randrange(-2, 3),
            max_tokens=draw.randrange(1, 9),
        )
    machine.run()
    machine.check_outputs()
    machine.check_empty()
