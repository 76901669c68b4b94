"""The benchmark of eviction policies measures what it says."""

from pathlib import Path

import pytest

from service.adapters.eviction import POLICIES
from tests.bench.eviction_load_cost import measure
from tests.bench.eviction_trace import MIB, LoadCost, Replay, make_trace

COST = LoadCost(0.001, 1e-9)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_request_is_served_and_every_miss_is_a_wait(policy: str) -> None:
    trace = make_trace(0, COST, num_adapters=40, num_requests=600, exponent=1.0)
    outcome = Replay(trace, COST, policy, host_bytes=200 * MIB).run()
    assert outcome.num_requests == len(outcome.waits) == 600
    assert sum(wait == 0 for wait in outcome.waits) == outcome.num_resident
    assert 0 < outcome.hit_rate < 1
    assert outcome.loaded_bytes > trace.num_bytes / 2


def test_memory_for_all_loads_each_once() -> None:
    trace = make_trace(1, COST, num_adapters=20, num_requests=600, exponent=0.5)
    outcome = Replay(trace, COST, "gdsf", host_bytes=2 * trace.num_bytes).run()
    wanted = {index for _, index in trace.requests}
    assert outcome.loaded_bytes == sum(trace.refs[one].compiled_bytes for one in wanted)


def test_cost_aware_eviction_pays() -> None:
    trace = make_trace(2, COST, num_adapters=100, num_requests=3000, exponent=1.0)
    lru, gdsf = (
        Replay(trace, COST, policy, host_bytes=trace.num_bytes // 10).run()
        for policy in ("lru", "gdsf")
    )
    assert gdsf.hit_rate > lru.hit_rate


def test_larger_files_take_longer(tmp_path: Path) -> None:
    cost = measure(tmp_path)
    assert 0 < cost.fixed_s < 1
    assert 1e-12 < cost.s_per_byte < 1e-6
