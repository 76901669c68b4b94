"""429 as OpenAI's own client understands it: it waits as long as it is told, and succeeds."""

import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from service.adapters.backends.memory_counters import MemoryCounters
from service.api.rates import rate_headers
from service.tenancy import RateState, Role, TenantLimits, WindowState
from tests.api.conftest import World, run, serve
from tests.api.test_auth import ask, new_key

BODY = {"model": "alpha", "prompt": "Hi", "max_tokens": 20}
LIMITS = TenantLimits(requests_per_minute=2, tokens_per_minute=1000)


class Clock:
    """Real time, moved ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(world: World) -> Clock:
    clock = Clock()
    world.limits, world.counters = LIMITS, MemoryCounters(clock)
    return clock


@pytest.fixture
def address(world: World, clock: Clock) -> Iterator[str]:
    with serve(world.app()) as address:
        yield address


def post(world: World, *bodies: dict[str, object]) -> list[httpx.Response]:
    async def main() -> list[httpx.Response]:
        async with world.client() as client:
            return [await client.post("/v1/completions", json=body) for body in bodies]

    return run(main())


def test_the_official_client_waits_and_tries_again(address: str, clock: Clock) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=2)
    client.completions.create(**BODY)
    client.completions.create(**BODY)
    clock.ahead += 59
    started = time.monotonic()
    client.completions.create(**BODY)
    assert 0.5 < time.monotonic() - started < 3.0


def test_the_official_client_raises_its_own_error(address: str) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    client.completions.create(**BODY)
    client.completions.create(**BODY)
    with pytest.raises(openai.RateLimitError) as caught:
        client.completions.create(**BODY)
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.type == "rate_limit_error"
    headers = caught.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert int(headers["retry-after"]) - 1 < int(headers["retry-after-ms"]) / 1000
    assert headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_every_answer_says_what_is_left(world: World, clock: Clock, is_streamed: bool) -> None:
    (answer,) = post(world, BODY | {"stream": is_streamed})
    assert answer.headers["x-ratelimit-limit-requests"] == "2"
    assert answer.headers["x-ratelimit-remaining-requests"] == "1"
    assert answer.headers["x-ratelimit-reset-requests"].startswith(("1m0s", "59.9"))
    assert answer.headers["x-ratelimit-limit-tokens"] == "1000"
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(1000 - 3 - 20)


def test_a_refused_stream_is_a_429_and_no_stream(world: World, clock: Clock) -> None:
    *_, refused = post(world, BODY, BODY, BODY | {"stream": True})
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/json"
    assert "2 requests per minute" in refused.json()["error"]["message"]


def test_what_never_fits_is_a_400_that_no_client_tries_again(world: World, clock: Clock) -> None:
    world.limits = TenantLimits(tokens_per_minute=10)
    (refused,) = post(world, BODY)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "never_within_limit"
    assert "retry-after" not in refused.headers


def test_without_limits_there_are_no_headers(world: World) -> None:
    (answer,) = post(world, BODY)
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


def test_limits_of_a_tenant_hold_at_once_in_place_of_the_defaults() -> None:
    world = World(settings={"api_key": ("op",)}, limits=TenantLimits(requests_per_minute=1))
    ask(world, "POST", "/v1/tenants", "op", json={"name": "red"})
    red, blue = (new_key(world, tenant, Role.USE) for tenant in ("red", "blue"))

    def status(key: str) -> int:
        return int(ask(world, "POST", "/v1/completions", key, json=BODY).status_code)

    def limit(limits: object) -> None:
        sent = {"limits": limits}
        assert ask(world, "PATCH", "/v1/tenants/red", "op", json=sent).status_code == 200

    assert [status(red), status(red), status(blue), status(blue)] == [200, 429, 200, 429]
    limit({"requests_per_minute": 2, "tokens_per_minute": 1000})
    assert [status(red), status(red)] == [200, 429]
    limit({"max_concurrent_requests": 1})
    assert [status(red), status(red)] == [200, 200]
    limit(None)
    assert status(red) == 429


def test_a_client_that_goes_away_gives_its_place_back(world: World) -> None:
    world.limits = TenantLimits(max_concurrent_requests=1)
    world.engine.seconds_per_token = 0.01
    world.engine.reply = lambda request: b"a" * 1000
    with serve(world.app()) as address, httpx.Client(base_url=address) as client:
        body = {"model": "alpha", "prompt": "Hi", "max_tokens": 100, "stream": True}
        with client.stream("POST", "/v1/completions", json=body) as answer:
            lines = answer.iter_lines()  # closes the answer once it is collected
            next(lines)
            assert client.post("/v1/completions", json=BODY).status_code == 429
        world.assert_all_given_back()
        assert client.post("/v1/completions", json=BODY).status_code == 200


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0s"), (12, "12ms"), (1000, "1s"), (10_000, "10s"), (59_500, "59.5s"), (60_000, "1m0s")],
)
def test_durations_read_as_openais(milliseconds: int, text: str) -> None:
    headers = rate_headers(RateState(requests=WindowState(5, 4, milliseconds)))
    assert headers["x-ratelimit-reset-requests"] == text
