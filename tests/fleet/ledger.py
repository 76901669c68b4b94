"""What was acknowledged, and whether a replica still knows it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

import httpx

Target = int | dict[str, int]
"""Where an alias leads: a version, or several with their weights."""


@dataclass(frozen=True, slots=True)
class NameState:
    """Of one name. Versions: number and digest."""

    versions: tuple[tuple[int, str], ...] = ()
    current: int | None = None
    aliases: tuple[tuple[str, Target], ...] = ()

    def published(self, version: int, digest: str) -> "NameState":
        others = tuple(one for one in self.versions if one[0] != version)
        return replace(self, versions=tuple(sorted((*others, (version, digest)))), current=version)

    def moved(self, alias: str, target: Target) -> "NameState":
        return replace(self, aliases=tuple(sorted({**dict(self.aliases), alias: target}.items())))


ABSENT = NameState()


@dataclass(slots=True)
class Ledger:
    """One writer for each name, so that what comes next is known; but see `uncertain`."""

    names: dict[str, NameState] = field(default_factory=dict)
    uncertain: dict[str, list[NameState]] = field(default_factory=dict)
    """A change that got no answer: it may have happened. Either is right, on both replicas the
    same."""
    live_keys: dict[str, str] = field(default_factory=dict)
    """Id → secret."""
    revoked_keys: dict[str, str] = field(default_factory=dict)
    num_acknowledged: int = 0

    def acknowledge(self, name: str, state: NameState) -> None:
        self.names[name] = state
        self.uncertain.pop(name, None)
        self.num_acknowledged += 1

    def doubt(self, name: str, state: NameState) -> None:
        """It was asked for, and nobody has said whether it was done."""
        before = self.names.get(name, ABSENT)
        self.uncertain.setdefault(name, [before]).append(state)

    def allowed(self, name: str) -> list[NameState]:
        return self.uncertain.get(name) or [self.names[name]]

    async def missing(self, replicas: Iterable[httpx.AsyncClient], seconds: float) -> list[str]:
        """What is not as it was acknowledged on some replica after so long; empty = all is well."""
        clients, deadline = list(replicas), monotonic() + seconds
        while True:
            problems = [one for client in clients for one in await self._differences(client)]
            problems += await self._disagreements(clients)
            if not problems or monotonic() > deadline:
                return problems
            await asyncio.sleep(0.2)

    async def _differences(self, client: httpx.AsyncClient) -> list[str]:
        found = await states(client)
        problems = [
            f"{name} on {client.base_url} is {found.get(name, ABSENT)}, not {self.allowed(name)}"
            for name in sorted({*self.names, *self.uncertain})
            if found.get(name, ABSENT) not in self.allowed(name)
        ]
        for secrets, status in ((self.live_keys, 200), (self.revoked_keys, 401)):
            for key, secret in secrets.items():
                headers = {"Authorization": f"Bearer {secret}"}
                answer = await client.get("/v1/models", headers=headers)
                if answer.status_code != status:
                    problems.append(f"key {key} on {client.base_url}: {answer.status_code}")
        return problems

    async def _disagreements(self, clients: list[httpx.AsyncClient]) -> list[str]:
        one, *others = [await states(client) for client in clients]
        return [
            f"{name} differs: {one.get(name)} and {other.get(name)}"
            for other in others
            for name in sorted({*one, *other})
            if one.get(name) != other.get(name)
        ]


async def states(client: httpx.AsyncClient) -> dict[str, NameState]:
    """Of every name that this replica knows."""
    found: dict[str, NameState] = {}
    after: str | None = None
    while True:
        params = {"limit": "1000"} | ({} if after is None else {"after": after})
        page = await client.get("/v1/adapters", params=params)
        page.raise_for_status()
        body = page.json()
        found |= {one["name"]: state_of(one) for one in body["data"]}
        if not body["has_more"]:
            return found
        after = body["data"][-1]["name"]


def state_of(adapter: dict[str, Any]) -> NameState:
    return NameState(
        tuple(sorted((one["version"], one["digest"]) for one in adapter["versions"])),
        next((one["version"] for one in adapter["versions"] if one["current"]), None),
        tuple(sorted(adapter["aliases"].items())),
    )
