"""Content and aliases change under a name under load; every answer is what its headers say."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e import tiny_adapters as tiny
from tests.server import Server

NUM_CHANGES = 200
NUM_CLIENTS = 6
SEEDS = (1, 2, 3, 4)
"""Four contents take turns; an upload costs a process, so only some of the changes are uploads."""
UPLOAD_EVERY = 40
PROMPT = [5, 9, 40, 77]
NUM_TOKENS = 6
MODELS = ("task", "task@stable", "task@split")


@dataclass(frozen=True)
class Served:
    """What one response says about itself."""

    model: str
    user: str
    version: str
    digest: str
    fingerprint: str
    outputs: tuple[int, ...]


@pytest.fixture
def server(base_folder: Path, tmp_path: Path) -> Iterator[Server]:
    with Server(base_folder, tmp_path) as running:
        yield running


def ask(client: httpx.Client, model: str, user: str) -> Served:
    body = {"model": model, "user": user, "prompt": PROMPT, "temperature": 0}
    body |= {"max_tokens": NUM_TOKENS, "ignore_eos": True}
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    return Served(
        model,
        user,
        response.headers["x-adapter-version"],
        response.headers["x-adapter-digest"],
        answer["system_fingerprint"],
        tuple(tiny.output_ids(answer)),
    )


def keep_asking(server: Server, number: int, is_over: threading.Event) -> list[Served]:
    served = []
    with httpx.Client(base_url=server.url, timeout=60) as client:
        while not is_over.is_set():
            served.append(ask(client, MODELS[len(served) % 3], f"{number}-{len(served)}"))
    return served


def change(server: Server, step: int, etag: str, folders: list[Path]) -> str:
    """Move the name, or its aliases, as somebody who saw the last state; the new ETag."""
    if step % UPLOAD_EVERY == 0:
        folder = folders[step // UPLOAD_EVERY % len(folders)]
        return checked(server.upload("task", folder)).headers["etag"]
    one, other = step % 4 + 1, (step + 1) % 4 + 1
    if step % 4 == 3:
        return checked(server.client.post("/v1/adapters/task/rollback")).headers["etag"]
    body = {"aliases": {"stable": one, "split": {str(one): 50, str(other): 50}}}
    if step % 4 != 2:
        body["current"] = other
    response = server.client.patch("/v1/adapters/task", json=body, headers={"If-Match": etag})
    return checked(response).headers["etag"]


def checked(response: httpx.Response) -> httpx.Response:
    assert response.status_code in (200, 201), response.text
    return response


def test_every_answer_is_that_of_the_version_it_names(
    server: Server, base_folder: Path, tmp_path: Path
) -> None:
    folders = [tiny.write(tmp_path / f"v{seed}", seed) for seed in SEEDS]
    digests = {}
    is_over = threading.Event()
    etag = checked(server.upload("task", folders[0])).headers["etag"]
    body = {"aliases": {"stable": 1, "split": 1}}
    etag = checked(server.client.patch("/v1/adapters/task", json=body)).headers["etag"]
    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        readers = [pool.submit(keep_asking, server, i, is_over) for i in range(NUM_CLIENTS)]
        try:
            for folder in folders[1:]:
                etag = checked(server.upload("task", folder)).headers["etag"]
            for view in server.client.get("/v1/adapters/task").json()["versions"]:
                digests[f"task@{view['version']}"] = view["digest"]
            for step in range(NUM_CHANGES - len(folders) + 1):
                etag = change(server, step, etag, folders)
        finally:
            is_over.set()
        served = [one for reader in readers for one in reader.result()]
    check(served, digests, base_folder)
    assert len(served) > NUM_CHANGES


def check(served: list[Served], digests: dict[str, str], base_folder: Path) -> None:
    reference = tiny.Reference(base_folder)
    outputs: dict[str, set[tuple[int, ...]]] = {}
    for one in served:
        assert one.digest == digests[one.version]
        assert one.fingerprint.endswith("_" + one.digest.removeprefix("sha256:")[:12])
        outputs.setdefault(one.version, set()).add(one.outputs)
    assert set(outputs) == set(digests), "every version was asked for"
    for version, answers in outputs.items():
        seed = int(version.removeprefix("task@"))
        assert all(reference.agrees(seed, PROMPT, list(answer)) for answer in answers)
        others = [other for other in SEEDS if other != seed]
        assert not any(
            reference.agrees(other, PROMPT, list(answer)) for other in others for answer in answers
        ), "or the test could not tell the versions apart"


def test_a_canary_gets_its_share_and_keeps_its_users(server: Server, tmp_path: Path) -> None:
    for seed in (1, 2):
        checked(server.upload("task", tiny.write(tmp_path / f"v{seed}", seed)))
    body = {"aliases": {"split": {"1": 70, "2": 30}}}
    checked(server.client.patch("/v1/adapters/task", json=body))
    first = [ask(server.client, "task@split", f"user-{i}") for i in range(100)]
    again = [ask(server.client, "task@split", f"user-{i}") for i in range(100)]
    assert [one.version for one in first] == [one.version for one in again]
    # Five standard deviations of 100 draws are 23.
    assert abs(Counter(one.version for one in first)["task@2"] - 30) <= 23
    by_chance = {ask(server.client, "task@split", "").version for _ in range(40)}
    assert by_chance == {"task@1", "task@2"}
