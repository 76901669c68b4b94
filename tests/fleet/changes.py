"""Changes through the balancer, each tried until it is acknowledged, and then remembered."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpx

from tests.fleet.answers import Files
from tests.fleet.ledger import ABSENT, Ledger, Target

PATIENCE_SECONDS = 90.0
PAUSE_SECONDS = 0.2

Call = Callable[[], Awaitable[httpx.Response]]


@dataclass(frozen=True, slots=True)
class Arrival:
    """Of an upload on the replica that did not take it, from its acknowledgement."""

    acknowledged: float
    seconds_until_known: float
    seconds_until_answered: float
    """A first token included, which takes its turn beside the load."""


class NotDone(Exception):
    """A change that was answered with what it must not be answered with, or not at all."""


class Changes:
    """`balancer` is where operators send changes; `replicas` are asked what they have heard."""

    def __init__(
        self, ledger: Ledger, balancer: httpx.AsyncClient, replicas: Sequence[httpx.AsyncClient]
    ) -> None:
        self.ledger, self.balancer, self.replicas = ledger, balancer, replicas
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        """`refused` by 503, `cut` by a replica's end, `stale` by 412, `raced` in rounds that had a
        winner."""
        self.arrivals: list[Arrival] = []

    async def publish(self, name: str, files: Files) -> int:
        """Its version."""
        parts = [("files", (path, data)) for path, data in files.items()]
        answer = await self._tried(
            f"upload of {name}",
            lambda: self.balancer.post("/v1/adapters", data={"name": name}, files=parts),
        )
        version, digest = answer.json()["version"], answer.json()["digest"]
        before = self.ledger.names.get(name, ABSENT)
        self.ledger.acknowledge(name, before.published(version, digest))
        await self._wait_until_usable(f"{name}@{version}", answer.headers.get("x-served-by", ""))
        return int(version)

    async def move(self, name: str, alias: str, version: int) -> None:
        wanted = {"aliases": {alias: version}}
        while True:
            seen = await self._tried(f"look at {name}", lambda: self._get(name))
            if seen.json()["aliases"].get(alias) == version:
                break
            if_match = {"If-Match": seen.headers["etag"]}
            answer = await self._tried(
                f"move of {name}@{alias}",
                lambda: self.balancer.patch(
                    f"/v1/adapters/{name}",
                    json=wanted,
                    headers=if_match,  # noqa: B023
                ),
                allowed=412,
            )
            if answer.status_code == 200:
                break
            self.counts["stale"] += 1
            await asyncio.sleep(PAUSE_SECONDS)
        state = self.ledger.names[name].moved(alias, version)
        self.ledger.acknowledge(name, state)
        await self._wait_until(lambda one: self._has_alias(one, name, alias, version))

    async def delete(self, name: str) -> None:
        await self._tried(
            f"delete of {name}", lambda: self.balancer.delete(f"/v1/adapters/{name}"), repeated=404
        )
        self.ledger.acknowledge(name, ABSENT)

    async def make_key(self, *, revoke: bool) -> None:
        made = await self._tried(
            "new key", lambda: self.balancer.post("/v1/keys", json={"role": "use"})
        )
        key, secret = made.json()["id"], made.json()["secret"]
        if not revoke:
            self.ledger.live_keys[key] = secret
            self.ledger.num_acknowledged += 1
            return
        await self._wait_until(lambda one: _accepts(one, secret))
        await self._tried(
            f"end of key {key}", lambda: self.balancer.delete(f"/v1/keys/{key}"), repeated=404
        )
        self.ledger.revoked_keys[key] = secret
        self.ledger.num_acknowledged += 1

    async def race(self, name: str, turn: int) -> None:
        """Two moves on the same ETag, one to each replica: at most one may win. Each is a change,
        whatever was before: weights that no turn had."""
        try:
            seen = await _look(self.replicas[0], f"/v1/adapters/{name}")
        except _GONE:
            return
        if seen.status_code != 200:
            self.problems.append(f"look at {name}: {seen.status_code} {seen.text[:300]}")
            return
        targets: list[Target] = [{"1": 2 * turn + number, "2": 1} for number in (1, 2)]
        answers = await asyncio.gather(
            *(
                replica.patch(
                    f"/v1/adapters/{name}",
                    json={"aliases": {"raced": target}},
                    headers={"If-Match": seen.headers["etag"]},
                )
                for replica, target in zip(self.replicas, targets, strict=True)
            ),
            return_exceptions=True,
        )
        self._judge_race(name, targets, answers)

    def _judge_race(
        self, name: str, targets: list[Target], answers: list[httpx.Response | BaseException]
    ) -> None:
        before, winners = self.ledger.names[name], []
        for target, answer in zip(targets, answers, strict=True):
            if isinstance(answer, httpx.TransportError):
                self.counts["cut"] += 1
                self.ledger.doubt(name, before.moved("raced", target))
            elif isinstance(answer, BaseException):
                raise answer
            elif answer.status_code == 200:
                winners.append(target)
            elif answer.status_code not in (412, 503):
                self.problems.append(f"race for {name}: {answer.status_code} {answer.text[:300]}")
        if len(winners) > 1:
            self.problems.append(f"two moves of {name} on one ETag were both acknowledged")
        elif winners:
            self.counts["raced"] += 1
            self.ledger.acknowledge(name, before.moved("raced", winners[0]))

    async def _tried(
        self, what: str, call: Call, *, allowed: int = 0, repeated: int = 0
    ) -> httpx.Response:
        """Again after a 503 that says when, and after a cut: every change here may be repeated.
        `repeated` is what it is told where the one that was cut has been made."""
        deadline = monotonic() + PATIENCE_SECONDS
        expected = {allowed}
        while monotonic() < deadline:
            answer = await _unless_cut(call)
            if answer is None:
                self.counts["cut"] += 1
                expected.add(repeated)
            elif answer.is_success or answer.status_code in expected:
                return answer
            elif answer.status_code == 503:
                self._count_refusal(what, answer)
            else:
                raise NotDone(f"{what}: {answer.status_code} {answer.text[:300]}")
            await asyncio.sleep(PAUSE_SECONDS)
        raise NotDone(f"{what}: not acknowledged within {PATIENCE_SECONDS:.0f} s")

    def _count_refusal(self, what: str, answer: httpx.Response) -> None:
        self.counts["refused"] += 1
        if not answer.headers.get("retry-after", "").isdigit():
            self.problems.append(f"{what}: 503 without Retry-After: {answer.text[:300]}")

    async def _wait_until_usable(self, model: str, taken_by: str) -> None:
        acknowledged = monotonic()
        for number, replica in enumerate(self.replicas, 1):
            is_known = await self._wait_until(lambda one: _knows(one, model), [replica])
            if is_known and taken_by and taken_by != f"replica-{number}":
                seconds = monotonic() - acknowledged
                if await self._wait_until(lambda one: _generates(one, model), [replica]):
                    whole = monotonic() - acknowledged
                    self.arrivals.append(Arrival(acknowledged, seconds, whole))

    async def _wait_until(
        self,
        is_so: Callable[[httpx.AsyncClient], Awaitable[bool]],
        replicas: Sequence[httpx.AsyncClient] | None = None,
    ) -> bool:
        """On every replica that is there at all: one that starts reads everything first. False
        when one was not there, or drains, which is about to start again."""
        is_so_on_all = True
        for replica in replicas or self.replicas:
            deadline = monotonic() + PATIENCE_SECONDS
            try:
                while not await is_so(replica):
                    if monotonic() > deadline:
                        raise NotDone(f"{replica.base_url} has not heard of it")
                    await asyncio.sleep(0.005)
            except _GONE:
                is_so_on_all = False
        return is_so_on_all

    async def _get(self, name: str) -> httpx.Response:
        return await self.balancer.get(f"/v1/adapters/{name}")

    async def _has_alias(
        self, replica: httpx.AsyncClient, name: str, alias: str, version: int
    ) -> bool:
        answer = await _look(replica, f"/v1/adapters/{name}")
        body: dict[str, Any] = answer.json()
        return answer.status_code == 200 and body["aliases"].get(alias) == version


class Draining(Exception):
    """A replica takes no requests: it is about to start again."""


_GONE = (httpx.TransportError, Draining)


async def _unless_cut(call: Call) -> httpx.Response | None:
    """None: nobody has said what became of it, or the balancer (502) that nobody has."""
    try:
        answer = await call()
    except httpx.TransportError:
        return None
    return None if answer.status_code == 502 else answer


async def _look(replica: httpx.AsyncClient, path: str, **headers: str) -> httpx.Response:
    return _unless_draining(await replica.get(path, headers=headers))


def _unless_draining(answer: httpx.Response) -> httpx.Response:
    if answer.status_code == 503:
        raise Draining
    return answer


async def _knows(replica: httpx.AsyncClient, model: str) -> bool:
    return (await _look(replica, f"/v1/models/{model}")).status_code == 200


async def _generates(replica: httpx.AsyncClient, model: str) -> bool:
    body = {"model": model, "prompt": "1 =>", "max_tokens": 1, "temperature": 0}
    answer = await replica.post("/v1/completions", json=body)
    return _unless_draining(answer).status_code == 200


async def _accepts(replica: httpx.AsyncClient, secret: str) -> bool:
    answer = await _look(replica, "/v1/models", Authorization=f"Bearer {secret}")
    return answer.status_code == 200
