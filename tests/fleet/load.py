"""Clients that know every answer, so that wrong ones are found as well as lost ones."""

import asyncio
import json
import random
import secrets
from dataclasses import dataclass, field
from time import monotonic

import httpx

from tests.fleet.answers import QUESTIONS, TASKS, Question

ENDLESS_TOKENS = 120


@dataclass(slots=True)
class Outcome:
    """Of one request."""

    request_id: str
    model: str
    is_stream: bool
    started: float
    ended: float = 0.0
    problem: str = ""
    """Empty = answered, and rightly."""
    is_wrong: bool = False
    """Answered, but not with the known answer: never to be excused."""
    replica: str = ""
    """Empty = nobody has said; the balancer's log knows more."""
    tier: str = ""
    """Where the adapter was; empty = no adapter, or not known."""


@dataclass(slots=True)
class Catalog:
    """Models with known answers. The popular ones come first: Zipf's law."""

    draw: random.Random
    exponent: float = 1.0
    models: list[str] = field(default_factory=list)
    _questions: dict[str, tuple[Question, ...]] = field(default_factory=dict)

    def add(self, model: str, task: str) -> None:
        """Somewhere in the middle of those that are there."""
        self._questions[model] = QUESTIONS[task]
        self.models.insert(self.draw.randint(0, len(self.models)), model)

    def learn(self, task: str, question: Question) -> None:
        """One whose answer was asked for before the load began."""
        self._questions[task] = (*self._questions[task], question)

    def pick(self, draw: random.Random) -> tuple[str, Question]:
        weights = [1 / rank**self.exponent for rank in range(1, len(self.models) + 1)]
        (model,) = draw.choices(self.models, weights)
        return model, draw.choice(self._questions[model])


def demo_catalog(draw: random.Random) -> Catalog:
    catalog = Catalog(draw)
    for task in TASKS:
        catalog.add(task, task)
    return catalog


async def ask(
    client: httpx.AsyncClient, model: str, question: Question, *, stream: bool
) -> Outcome:
    outcome = Outcome(secrets.token_hex(8), model, stream, monotonic())
    try:
        text = await _answer(client, outcome, question.body(model) | {"stream": stream})
        if text is not None and not question.is_right(text):
            outcome.is_wrong = True
            outcome.problem = f"answered {text!r}, not {question.answer!r}"
    except httpx.TransportError as error:
        outcome.problem = f"cut off: {type(error).__name__}"
    outcome.ended = monotonic()
    return outcome


async def _answer(
    client: httpx.AsyncClient, outcome: Outcome, body: dict[str, object]
) -> str | None:
    """None when `outcome` says why there is none."""
    headers = {"x-request-id": outcome.request_id}
    async with client.stream("POST", "/v1/completions", json=body, headers=headers) as response:
        outcome.replica = response.headers.get("x-served-by", "")
        outcome.tier = response.headers.get("x-adapter-tier", "")
        if response.status_code != 200:
            await response.aread()
            outcome.problem = f"{response.status_code}: {response.text[:300]}"
            return None
        if outcome.is_stream:
            return await _streamed(response, outcome)
        await response.aread()
        text: str = response.json()["choices"][0]["text"]
        return text


async def _streamed(response: httpx.Response, outcome: Outcome) -> str | None:
    texts: list[str] = []
    async for line in response.aiter_lines():
        if line == "data: [DONE]":
            return "".join(texts)
        if not line.startswith("data: "):
            continue
        frame = json.loads(line.removeprefix("data: "))
        if "error" in frame:
            outcome.problem = f"error in the stream: {frame['error']['code']}"
            return None
        texts += [choice["text"] for choice in frame["choices"]]
    outcome.problem = "cut off: the stream ended without its end"
    return None


class Load:
    """A closed loop: each client sends its next request when the last one is answered, and
    `think_s` have gone by."""

    def __init__(
        self, url: str, key: str, catalog: Catalog, *, seed: int = 0, think_s: float = 0.0
    ) -> None:
        self.catalog = catalog
        self.outcomes: list[Outcome] = []
        self._url, self._key = url, key
        self._seed, self._think_s = seed, think_s
        self._clients: list[asyncio.Task[None]] = []
        self._is_over = False

    def start(self, num_clients: int) -> None:
        self._is_over = False
        self._clients = [asyncio.create_task(self._client(one)) for one in range(num_clients)]

    async def stop(self) -> None:
        """After the answers that are under way."""
        self._is_over = True
        await asyncio.gather(*self._clients)

    async def _client(self, number: int) -> None:
        draw = random.Random(f"{self._seed} {number}")
        async with new_client(self._url, self._key) as client:
            while not self._is_over:
                model, question = self.catalog.pick(draw)
                outcome = await ask(client, model, question, stream=draw.random() < 0.5)
                self.outcomes.append(outcome)
                await asyncio.sleep(0.1 if outcome.problem else self._think_s)


def new_client(url: str, key: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=120)


async def learned(client: httpx.AsyncClient, task: str) -> Question:
    """A long question of `task`, with what this replica answers while it has nothing else to do."""
    prompt = QUESTIONS[task][0].prompt
    asked = Question(prompt, "", ENDLESS_TOKENS, is_endless=True)
    response = await client.post("/v1/completions", json=asked.body(task))
    response.raise_for_status()
    return Question(prompt, response.json()["choices"][0]["text"], ENDLESS_TOKENS, is_endless=True)
