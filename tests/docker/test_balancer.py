"""`docker/haproxy.cfg`: who gets which request, and what becomes of it when a replica goes."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import openai
import pytest

from tests.api.conftest import wait_until
from tests.docker.replica_stub import ReplicaStub
from tests.haproxy import Balancer, needs_haproxy

pytestmark = needs_haproxy

MODELS = [f"adapter-{number}" for number in range(40)]
BOTH = ("replica-1", "replica-2")
BUFFER_BYTES = 256 << 10


class Fleet:
    def __init__(self, first: ReplicaStub, second: ReplicaStub, balancer: Balancer) -> None:
        self.replicas = (first, second)
        self.balancer = balancer
        self.client = httpx.Client(base_url=balancer.url, timeout=60)

    def ask(self, model: str, **fields: object) -> str:
        """The replica that answers."""
        return self.who(self.client.post("/v1/completions", json={"model": model} | fields))

    def who(self, response: httpx.Response) -> str:
        assert response.status_code == 200, response.text
        name: str = response.json()["id"]
        assert response.headers["x-served-by"] == name
        return name

    def hold(self, stack: ExitStack, model: str) -> httpx.Response:
        """The answer's headers are there; its rest comes when the replica no longer holds it."""
        request = self.client.stream("POST", "/v1/completions", json={"model": model})
        return stack.enter_context(request)

    def replica(self, name: str) -> ReplicaStub:
        return next(one for one in self.replicas if one.name == name)

    def home_and_other(self, model: str) -> tuple[ReplicaStub, ReplicaStub]:
        home = self.replica(self.ask(model))
        home.bodies.clear()
        return home, next(one for one in self.replicas if one is not home)

    def placement(self) -> dict[str, str]:
        return {model: self.ask(model) for model in MODELS}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    log = tmp_path_factory.mktemp("balancer") / "haproxy.log"
    with ExitStack() as stack:
        first, second = (stack.enter_context(ReplicaStub(name)) for name in BOTH)
        balancer = stack.enter_context(
            Balancer([first.address, second.address], log, CHECK_INTERVAL="100ms")
        )
        fleet = Fleet(first, second, balancer)
        stack.enter_context(fleet.client)
        yield fleet


@pytest.fixture
def fleet(shared: Fleet) -> Fleet:
    for replica in shared.replicas:
        replica.reset()
    shared.balancer.wait_until_up(*BOTH)
    return shared


def test_an_adapter_has_one_replica_and_adapters_are_spread(fleet: Fleet) -> None:
    placement = fleet.placement()
    assert fleet.placement() == placement
    counts = Counter(placement.values())
    assert set(counts) == set(BOTH)
    assert min(counts.values()) >= len(MODELS) // 4


def test_versions_aliases_and_tenants_of_a_name_go_together(fleet: Fleet) -> None:
    for model in MODELS[:8]:
        written = [f"{model}@3", f"{model}@stable", f"{model}@sha256:0123abcd", f"team/{model}@2"]
        assert {fleet.ask(one) for one in written} == {fleet.ask(model)}


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_a_stock_openai_client_needs_no_header(fleet: Fleet, endpoint: str) -> None:
    placement = fleet.placement()
    url = f"{fleet.balancer.url}/v1"
    with openai.OpenAI(base_url=url, api_key="x", max_retries=0) as client:
        for model in MODELS[:8]:
            if endpoint == "chat":
                # Its body has `messages`, with a `model` of their own, before `model`.
                message = {"role": "user", "content": '{"model": "adapter-0"}'}
                answer = client.chat.completions.create(model=model, messages=[message])
            else:
                answer = client.completions.create(model=model, prompt="Hi")
            assert answer.id == placement[model]


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"model": "adapter-0"}, "prompt": '"model": "adapter-1"'},
        {"prompt": [{"model": "adapter-0"}, {"model": "adapter-1"}]},
        {"prompt": 'quotes \\" and \u00e9\u4e2d\n' * 50},
    ],
    ids=["nested", "in a list", "escapes"],
)
def test_only_the_models_own_field_counts_wherever_it_is(
    fleet: Fleet, fields: dict[str, object]
) -> None:
    placement = fleet.placement()
    for model in MODELS[:8]:
        last = json.dumps(fields | {"model": model})
        first = json.dumps({"model": model} | fields, indent=2)
        for body in (last, first):
            assert fleet.who(fleet.client.post("/v1/completions", content=body)) == placement[model]


def test_a_sum_goes_where_its_first_part_is(fleet: Fleet) -> None:
    placement = fleet.placement()
    for model in MODELS[:8]:
        parts = [{"name": model, "weight": 0.5}, {"name": "adapter-0"}]
        assert fleet.ask("demo-base", adapters=parts) == placement[model]


def test_what_is_warmed_or_fetched_is_so_where_its_requests_go(fleet: Fleet) -> None:
    placement = fleet.placement()
    for model in MODELS[:8]:
        warm = fleet.client.post(f"/v1/adapters/{model}/warm", json={"tier": "host"})
        source = {"source": "https://example.org/a.tar.gz", "name": model}
        fetch = fleet.client.post("/v1/adapters", json=source)
        assert {fleet.who(warm), fleet.who(fetch)} == {placement[model]}


def test_what_names_no_adapter_goes_to_who_has_least_to_do(fleet: Fleet) -> None:
    for replica in fleet.replicas:
        replica.is_holding = True
    with ExitStack() as stack:
        for _ in range(4):
            body = {"model": "demo-base", "prompt": "held"}
            stack.enter_context(fleet.client.stream("POST", "/v1/completions", json=body))
        assert [replica.num_held for replica in fleet.replicas] == [2, 2]
        answers = [
            fleet.client.get("/v1/models"),
            fleet.client.post("/v1/adapters", data={"name": "n"}, files={"archive": b"x" * 500000}),
            fleet.client.post("/v1/completions", content=b"no json"),
            fleet.client.post("/v1/completions", content=b""),
        ]
        assert {fleet.who(answer) for answer in answers} <= set(BOTH)
        for replica in fleet.replicas:
            replica.is_holding = False


def test_a_prompt_over_the_buffer_arrives_whole_at_some_replica(fleet: Fleet) -> None:
    prompt = "x" * (4 * BUFFER_BYTES)
    for body in (
        {"model": "adapter-1", "prompt": prompt},
        {"prompt": prompt, "model": "adapter-1"},
    ):
        content = json.dumps(body)
        response = fleet.client.post("/v1/completions", content=content)
        assert fleet.who(response) in BOTH
        assert response.json()["num_bytes"] == len(content)


def test_a_model_that_the_buffer_does_not_hold_goes_to_who_has_least_to_do(fleet: Fleet) -> None:
    home, other = fleet.home_and_other("held")
    theirs = [model for model, name in fleet.placement().items() if name == home.name][:3]
    too_long = "x" * BUFFER_BYTES
    home.is_holding = True
    with ExitStack() as stack:
        fleet.hold(stack, "held")
        for model in theirs:
            assert fleet.ask(model) == home.name, "it may have one more"
            assert fleet.ask(model, prompt=too_long) == home.name, "its model comes first"
            behind = json.dumps({"prompt": too_long, "model": model})
            assert fleet.who(fleet.client.post("/v1/completions", content=behind)) == other.name
            assert fleet.ask("demo-base") == other.name
        home.is_holding = False


def test_a_prompt_that_just_fits_is_routed(fleet: Fleet) -> None:
    placement = fleet.placement()
    for model in MODELS[:4]:
        body = json.dumps({"prompt": "x" * (BUFFER_BYTES - 4096), "model": model})
        assert fleet.who(fleet.client.post("/v1/completions", content=body)) == placement[model]


def test_a_chunked_body_that_arrives_slowly_is_routed(fleet: Fleet) -> None:
    placement = fleet.placement()
    for model in MODELS[:4]:

        def pieces(name: str = model) -> Iterator[bytes]:
            for piece in ('{"prompt": "Hi", "mo', f'del": "{name[:4]}', f'{name[4:]}"', "}"):
                yield piece.encode()
                time.sleep(0.03)

        answer = fleet.client.post("/v1/completions", content=pieces())
        assert fleet.who(answer) == placement[model]


def test_a_hot_adapter_gets_help_and_no_more_of_it_than_needed(fleet: Fleet) -> None:
    home, other = fleet.home_and_other("held")
    home.is_holding = other.is_holding = True
    with ExitStack() as stack:
        for _ in range(8):
            fleet.hold(stack, "held")
        # At most 1.5 times the mean of four, rounded up.
        assert (home.num_held, other.num_held) == (6, 2)
        home.is_holding = other.is_holding = False
    assert fleet.ask("held") == home.name, "and comes home"


def test_frames_of_a_stream_arrive_as_they_are_sent(fleet: Fleet) -> None:
    home, _ = fleet.home_and_other("held")
    home.is_holding = True
    with ExitStack() as stack:
        lines = fleet.hold(stack, "held").iter_lines()
        assert next(lines) == f"data: {home.name}", "and the rest is not even written yet"
        home.is_holding = False
        assert list(lines)[-1] == "data: end"


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_leaves_is_gone_for_the_replica_too(fleet: Fleet, is_stream: bool) -> None:
    home, _ = fleet.home_and_other("held")
    home.is_holding, home.is_silent = True, not is_stream
    with pytest.raises(httpx.ReadTimeout):
        fleet.client.post("/v1/completions", json={"model": "held"}, timeout=0.3)
    wait_until(lambda: home.num_left == 1)


def test_replicas_are_told_who_asked(fleet: Fleet) -> None:
    replica = fleet.replica(fleet.ask("adapter-1"))
    assert replica.headers[-1]["x-forwarded-for"] == "127.0.0.1"


def test_a_draining_replica_keeps_its_streams_and_gets_nothing_new(fleet: Fleet) -> None:
    home, other = fleet.home_and_other("held")
    home.is_holding = True
    before = fleet.placement()
    with ExitStack() as stack:
        lines = fleet.hold(stack, "held").iter_lines()
        assert next(lines) == f"data: {home.name}"
        home.is_ready = False
        fleet.balancer.wait_until_up(other.name)
        during = fleet.placement()
        home.is_holding = False
        assert list(lines)[-1] == "data: end"
    assert set(during.values()) == {other.name}
    home.is_ready = True
    fleet.balancer.wait_until_up(*BOTH)
    assert fleet.placement() == before


def test_a_rolling_restart_fails_nobody(fleet: Fleet) -> None:
    before = fleet.placement()
    is_over = threading.Event()
    answers: list[int] = []

    def ask_on() -> None:
        with httpx.Client(base_url=fleet.balancer.url, timeout=60) as client:
            while not is_over.is_set():
                body = {"model": MODELS[len(answers) % len(MODELS)]}
                answers.append(client.post("/v1/completions", json=body).status_code)

    asking = threading.Thread(target=ask_on)
    asking.start()
    for replica in fleet.replicas:
        rest = [one.name for one in fleet.replicas if one is not replica]
        replica.is_ready = False
        fleet.balancer.wait_until_up(*rest)
        replica.stop()
        replica.is_ready = True
        replica.start()
        fleet.balancer.wait_until_up(*BOTH)
    is_over.set()
    asking.join(timeout=60)
    assert set(answers) == {200}
    assert fleet.placement() == before


def test_the_adapters_of_a_dead_replica_are_answered_by_the_other_at_once(fleet: Fleet) -> None:
    home, other = fleet.home_and_other("held")
    before = fleet.placement()
    home.stop()
    try:
        # The first of them find out, not the checks: no connection, so nothing was sent.
        assert set(fleet.placement().values()) == {other.name}
        assert fleet.who(fleet.client.get("/v1/models")) == other.name
    finally:
        home.start()
    fleet.balancer.wait_until_up(*BOTH)
    assert fleet.placement() == before


@pytest.mark.parametrize("dead", BOTH)
def test_also_when_the_other_has_so_much_to_do_that_it_would_get_no_more(
    tmp_path: Path, dead: str
) -> None:
    """The checks are so rare that they cannot be what helps."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(ReplicaStub(name)) for name in BOTH)
        addresses = [first.address, second.address]
        balancer = Balancer(addresses, tmp_path / "log", CHECK_INTERVAL="60s")
        fleet = Fleet(first, second, stack.enter_context(balancer))
        stack.enter_context(fleet.client)
        balancer.wait_until_up(*BOTH)
        lost = [model for model, name in fleet.placement().items() if name == dead]
        busy = second if dead == first.name else first
        busy.is_holding = True
        fleet.replica(dead).stop()
        for _ in range(8):
            fleet.hold(stack, "held")
        assert {fleet.ask(model) for model in lost} == {busy.name}
        busy.is_holding = False


def test_a_request_that_a_replica_has_seen_is_never_sent_to_another(fleet: Fleet) -> None:
    home, other = fleet.home_and_other("held")
    home.is_holding, home.is_silent = True, True
    wait = threading.Timer(0.3, home.break_off)
    wait.start()
    # On a connection of its own: where it is not the first one, HAProxy closes it instead.
    answer = httpx.post(f"{fleet.balancer.url}/v1/completions", json={"model": "held"}, timeout=60)
    wait.join()
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "replica_lost"
    assert other.bodies == []


def test_without_any_replica_the_answer_says_so_and_when_to_come_back(fleet: Fleet) -> None:
    for replica in fleet.replicas:
        replica.is_ready = False
    fleet.balancer.wait_until_up()
    with (
        openai.OpenAI(base_url=f"{fleet.balancer.url}/v1", api_key="x", max_retries=0) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.completions.create(model="adapter-1", prompt="Hi")
    assert caught.value.status_code == 503
    assert caught.value.code == "no_replica"
    assert caught.value.response.headers["retry-after"] == "5"


def test_the_balancer_can_be_scraped(fleet: Fleet) -> None:
    text = httpx.get(f"{fleet.balancer.statistics_url}/metrics").text
    assert 'haproxy_server_status{proxy="replicas",server="replica-1",state="UP"} 1' in text
