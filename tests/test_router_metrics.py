"""The series that routers know, in the text that a scrape gets."""

from service.core import EngineStats
from service.metrics import Metrics
from service.router_metrics import (
    LoadedAdapter,
    RouterMetrics,
    RouterState,
    adapter_load_seconds,
    load_observer,
)
from tests.endpoint_picker import Loaded, Seen, read

IDLE = RouterState("tiny", 0, 0, 0.0, 16, 1000, 8, 0, 0, [], [], [])
BUSY = RouterState(
    model="tiny",
    num_running=3,
    num_waiting=2,
    kv_usage=0.25,
    block_size=16,
    num_blocks=1000,
    max_on_device=3,
    num_on_device=2,
    num_in_host=3,
    running=["a", "team-a/b@stable"],
    waiting=["c"],
    loaded=[
        LoadedAdapter("a", "gpu", is_pinned=False, rank=8),
        LoadedAdapter("d", "cpu", is_pinned=True, rank=64),
    ],
)


class Scraped:
    def __init__(self, state: RouterState) -> None:
        self.state = state
        self.now = 1_800_000_000.25
        histogram = adapter_load_seconds()
        self.observe = load_observer(histogram, "tiny")
        collector = RouterMetrics(lambda: self.state, lambda: self.now)
        self.metrics = Metrics(EngineStats, histogram, collector)

    def text(self) -> str:
        return self.metrics.render().decode()

    def seen(self) -> Seen:
        return read(self.text())


def test_at_start_everything_is_there_and_empty() -> None:
    seen = Scraped(IDLE).seen()
    assert (seen.num_running, seen.num_waiting, seen.kv_usage) == (0, 0, 0.0)
    assert (seen.block_size, seen.num_blocks, seen.base) == (16, 1000, "tiny")
    assert (seen.active, seen.waiting, seen.max_active) == (frozenset(), frozenset(), 8)
    assert (seen.loaded, seen.num_on_gpu, seen.max_on_gpu) == ({}, 0, 8)
    assert seen.seconds == {}
    assert seen.affinity("a") == 0.8


def test_a_picker_reads_what_was_said() -> None:
    seen = Scraped(BUSY).seen()
    assert (seen.num_running, seen.num_waiting, seen.kv_usage) == (3, 2, 0.25)
    assert (seen.active, seen.waiting) == ({"a", "team-a/b@stable"}, {"c"})
    assert seen.loaded == {"a": Loaded("gpu", False, 8), "d": Loaded("cpu", True, 64)}
    assert (seen.num_on_gpu, seen.num_on_cpu, seen.max_on_gpu) == (2, 3, 3)
    assert [seen.affinity(name) for name in ("a", "c", "d")] == [1.0, 0.6, 0.0]
    assert [seen.load_state(name) for name in ("a", "d", "z")] == [1.0, 0.7, 0.6]


def test_of_the_requests_there_is_one_series_and_its_value_is_its_time() -> None:
    scraped = Scraped(BUSY)
    scraped.text()
    scraped.state, scraped.now = IDLE, 1_800_000_001.5
    lines = [line for line in scraped.text().splitlines() if line.startswith("vllm:lora_req")]
    (line,) = lines
    assert float(line.rpartition(" ")[2]) == 1_800_000_001.5
    assert not scraped.seen().active


def test_what_is_gone_leaves_no_series() -> None:
    scraped = Scraped(BUSY)
    assert scraped.seen().loaded
    scraped.state = IDLE
    assert 'adapter_name="' not in scraped.text()


def test_transitions_have_their_times() -> None:
    scraped = Scraped(IDLE)
    for seconds in (0.25, 0.75):
        scraped.observe("load", seconds)
    assert scraped.seen().seconds == {"load": 0.5}
    scraped.observe("activate", 0.125)
    assert scraped.seen().seconds == {"load": 0.5, "activate": 0.125}
