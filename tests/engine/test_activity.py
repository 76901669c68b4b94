"""Who runs and who waits, as it is told while the engine works."""

from service.core import AdapterPart, GenerationRequest, SamplingParams
from service.engine.activity import Activity, Use
from service.step import Step, StepResult
from tests.engine.machine import Machine, ref

A, B = Use("default", "adapter1", 1), Use("default", "adapter2", 1)


def test_one_runs_while_another_waits_for_its_load() -> None:
    machine = Machine()
    assert machine.engine.activity.snapshot() == Activity()
    machine.add(adapter=ref(1))
    assert machine.engine.activity.snapshot() == Activity(cold={A: 1})
    machine.finish_load("digest1")
    assert machine.engine.activity.snapshot() == Activity(waiting={A: 1})
    machine.step()
    machine.add(adapter=ref(2))
    machine.add(adapter=ref(2))
    assert machine.engine.activity.snapshot() == Activity(running={A: 1}, cold={B: 2})
    machine.run()
    assert machine.engine.activity.snapshot() == Activity()


def test_a_forward_is_seen_while_it_runs() -> None:
    machine = Machine()
    machine.add(adapter=ref(1))
    machine.finish_load("digest1")
    seen = []
    run = machine.runner.run

    def watched(step: Step) -> StepResult:
        engine = machine.engine
        seen.append((engine.activity.snapshot(), engine.stats.num_running, engine.stats.resident))
        return run(step)

    machine.runner.run = watched
    machine.step()
    assert seen == [(Activity(running={A: 1}), 1, {"digest1": "device"})]


def test_a_sum_counts_as_the_base_and_each_tenant_for_itself() -> None:
    machine = Machine()
    total = ref(3, parts=(AdapterPart(ref(1), 0.5), AdapterPart(ref(2), 0.5)))
    for tenant, adapter in (("team-a", total), ("team-a", None), ("team-b", ref(1))):
        request = GenerationRequest(
            f"of {tenant} {adapter}", (1, 2), SamplingParams(max_tokens=1), adapter, tenant=tenant
        )
        machine.engine.add(request)
    assert machine.engine.activity.snapshot() == Activity(
        waiting={Use("team-a", "", 0): 1},
        cold={Use("team-a", "", 0): 1, Use("team-b", "adapter1", 1): 1},
    )


def test_what_brought_an_adapter_to_the_device_is_told() -> None:
    machine = Machine()
    machine.add(adapter=ref(1))
    machine.add(adapter=ref(2))
    machine.finish_load("digest1")
    machine.finish_load("digest2")
    machine.run()
    assert [name for name, _ in machine.brought] == ["load", "load", "activate", "activate"]
    assert machine.brought[0] == ("load", 0.1)
    assert all(seconds >= 0 for _, seconds in machine.brought)
