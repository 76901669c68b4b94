"""What routers read from the metrics: which names, how many, and in which list."""

from dataclasses import dataclass, field, replace

from service.adapters.arena import PAGE_BYTES
from service.adapters.registry import AdapterRegistry
from service.core import AdapterRef, EngineStats, TierStats
from service.engine.activity import Activity, Use
from service.handlers.replica import Replica, max_on_device
from service.handlers.router_state import RouterStateReader
from service.router_metrics import LoadedAdapter, RouterState
from tests.fakes import FakePlaces

TIERS = {
    "device": TierStats(num_adapters=1, num_bytes=PAGE_BYTES, budget_bytes=4 * PAGE_BYTES),
    "host": TierStats(num_adapters=3),
}


def ref(name: str, version: int = 1, num_bytes: int = 100, rank: int = 8) -> AdapterRef:
    return AdapterRef(name, version, f"digest of {name}@{version}", num_bytes, rank=rank)


@dataclass
class Stub:
    """A replica as far as it is looked at."""

    shown: EngineStats = field(default_factory=lambda: EngineStats(tiers=dict(TIERS)))
    seen: Activity = field(default_factory=Activity)
    registry: AdapterRegistry = field(default_factory=AdapterRegistry)
    places: FakePlaces = field(default_factory=FakePlaces)
    max_names: int = 100

    def stats(self) -> EngineStats:
        return self.shown

    def activity(self) -> Activity:
        return self.seen

    def name(self, *refs: AdapterRef, current: int = 1, **aliases: int) -> None:
        shares = {alias: ((number, 1),) for alias, number in aliases.items()}
        versions = {one.version: one for one in refs}
        self.registry.register(refs[0].name, versions, current, shares)

    def put(self, **resident: str) -> None:
        digests = {f"digest of {name}@1": tier for name, tier in resident.items()}
        self.shown = replace(self.shown, resident=digests)

    def read(self) -> RouterState:
        replica = Replica(self, self.registry, self.places, self.places)
        return RouterStateReader("tiny", replica, self.max_names).read()


def uses(*names: str, version: int = 1, tenant: str = "default") -> dict[Use, int]:
    return {Use(tenant, name, version): 2 for name in names}


def test_who_runs_does_not_wait_and_who_waits_is_named_once() -> None:
    replica = Stub()
    for name in ("a", "b", "team-a/c"):
        replica.name(ref(name))
    replica.seen = Activity(
        running=uses("a", ""),
        waiting=uses("a", "team-a/c", tenant="team-a"),
        cold=uses("b", "", "team-a/c"),
    )
    state = replica.read()
    assert (state.running, state.waiting) == (["a"], ["b", "team-a/c"])


def test_the_queue_has_those_that_wait_for_their_adapter_too() -> None:
    replica = Stub(EngineStats(num_running=3, num_waiting=2, num_cold=4, tiers=TIERS))
    assert (replica.read().num_running, replica.read().num_waiting) == (3, 6)


def test_a_version_goes_by_what_leads_to_it_or_else_by_its_number() -> None:
    replica = Stub()
    versions = [ref("a", number) for number in (1, 2, 3)]
    replica.name(*versions, current=2, stable=1, canary=2)
    uses_of = {Use("default", "a", number): 1 for number in (1, 2, 3)}
    replica.seen = Activity(running=uses_of)
    assert replica.read().running == ["a", "a@3", "a@canary", "a@stable"]


def test_what_has_lost_its_name_is_gone_though_it_still_runs() -> None:
    replica = Stub()
    replica.name(ref("a"))
    replica.put(a="device")
    replica.seen = Activity(running=uses("a"))
    assert replica.read().running == ["a"]
    replica.registry.unregister("a")
    assert (replica.read().running, replica.read().loaded) == ([], [])


def test_a_name_that_is_over_is_gone_before_it_is_deleted() -> None:
    replica = Stub()
    replica.name(ref("a"))
    replica.put(a="device")
    replica.registry.set_end("a", 1)
    assert not replica.read().loaded


def test_each_is_at_its_fastest_level_and_pins_hold_the_host_alone() -> None:
    replica = Stub()
    for name in ("a", "b", "c"):
        replica.name(ref(name, rank=16))
        replica.places.held[name] = {f"digest of {name}@1"}
    del replica.places.held["c"]
    replica.put(a="device", b="host", c="host")
    assert replica.read().loaded == [
        LoadedAdapter("a", "gpu", is_pinned=False, rank=16),
        LoadedAdapter("c", "cpu", is_pinned=False, rank=16),
        LoadedAdapter("b", "cpu", is_pinned=True, rank=16),
    ]


def test_content_goes_by_every_name_that_has_it() -> None:
    replica = Stub()
    one = ref("a")
    replica.name(one)
    replica.name(replace(one, name="team-a/b"))
    replica.put(a="device")
    assert [loaded.name for loaded in replica.read().loaded] == ["a", "team-a/b"]


def test_no_list_has_more_names_than_allowed_and_the_newest_stay() -> None:
    replica = Stub(max_names=2)
    for name in "abcd":
        replica.name(ref(name))
    replica.put(a="host", b="device", c="host", d="host")
    replica.seen = Activity(running=uses(*"abc"), waiting=uses("d"))
    state = replica.read()
    assert [one.name for one in state.loaded] == ["b", "d"]
    assert (state.running, state.waiting) == (["a", "b"], ["d"])


def test_what_is_on_its_way_is_not_counted_as_there() -> None:
    replica = Stub(EngineStats(num_loading=1, tiers=TIERS))
    assert (replica.read().num_on_device, replica.read().num_in_host) == (1, 2)


def test_how_many_fit_is_told_from_the_free_bytes_and_the_mean_size() -> None:
    replica = Stub()
    assert replica.read().max_on_device == 4, "one is there, three pages are free"
    replica.name(ref("a", num_bytes=PAGE_BYTES))
    replica.name(ref("b", num_bytes=2 * PAGE_BYTES))
    assert replica.read().max_on_device == 2, "a page and a half is two"
    replica.registry.unregister("b")
    assert replica.read().max_on_device == 4


def test_it_is_reached_when_one_more_would_need_an_eviction() -> None:
    full = TierStats(num_adapters=7, num_bytes=10, budget_bytes=10)
    assert max_on_device(full, mean_bytes=1) == 7
    assert max_on_device(TierStats(), mean_bytes=0) == 0
