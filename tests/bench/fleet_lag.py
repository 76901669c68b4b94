"""How long after an upload was acknowledged by one replica the other serves it: `make
bench-fleet-lag`, two server processes, one store folder and a Redis on this machine, nothing else
to do. Also for a key: until one that was revoked on one replica is refused by the other.

The other is asked again and again, and the first answer includes that it reads the adapter.
"""

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from tests.bench.machine_class import machine_class
from tests.bench.traffic import percentile
from tests.contract.architectures import make_base
from tests.e2e import tiny_adapters as tiny
from tests.redis_server import RedisServer
from tests.server import Server

OPERATOR = {"Authorization": "Bearer op"}
SAFETY_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", type=int, default=30)
    num_uploads = parser.parse_args().uploads
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = Path(folder)
        base = make_base("llama", work / "base")
        redis = stack.enter_context(RedisServer(work))
        pair = [_server(base, work, name, redis) for name in "ab"]
        for server in pair:
            stack.enter_context(server)
            server.client.headers.update(OPERATOR)
        known, served, questions, refused = [], [], [], []
        for number in range(num_uploads):
            one, other = pair if number % 2 else pair[::-1]
            adapter = tiny.write(work / "adapters" / str(number), number)
            one.upload(f"n{number}", adapter).raise_for_status()
            known.append(_seconds_until(partial(_is_known, other, f"n{number}")))
            served.append(known[-1] + _seconds_until(partial(_is_served, other, f"n{number}")))
            questions.append(_seconds_until(partial(_is_served, other, f"n{number}")))
            refused.append(_revoke(one, other))
    rows = (
        ("an upload, until the other replica lists it", known),
        ("an upload, until the other replica has answered with it", served),
        ("a key's end, until the other replica refuses it", refused),
        ("the same answer again, once the adapter is in memory", questions),
    )
    lines = [f"{machine_class()}; {num_uploads} uploads, no other load", ""]
    lines += [f"{'milliseconds':58}{'median':>8}{'p99':>8}"]
    lines += [f"{what:58}{_ms(median(s)):>8}{_ms(percentile(s, 0.99)):>8}" for what, s in rows]
    print("\n".join(lines))  # noqa: T201


def _server(base: Path, work: Path, name: str, redis: RedisServer) -> Server:
    folder = work / name
    folder.mkdir()
    fleet = {"redis_url": redis.url, "replica_id": name, "api_key": "op"}
    return Server(base, folder, store=work / "store", **fleet)


def _is_known(server: Server, model: str) -> bool:
    return server.client.get(f"/v1/models/{model}").status_code == 200


def _is_served(server: Server, model: str) -> bool:
    body = {"model": model, "prompt": [1, 2], "max_tokens": 1}
    return server.client.post("/v1/completions", json=body).status_code == 200


def _revoke(one: Server, other: Server) -> float:
    key = one.client.post("/v1/keys", json={"role": "use"}).json()
    sent = {"Authorization": f"Bearer {key['secret']}"}

    def opens() -> bool:
        return other.client.get("/v1/models", headers=sent).status_code == 200

    _seconds_until(opens)
    one.client.delete(f"/v1/keys/{key['id']}").raise_for_status()
    return _seconds_until(lambda: not opens())


def _seconds_until(is_so: Callable[[], bool]) -> float:
    started = perf_counter()
    while not is_so():
        if perf_counter() - started > SAFETY_S:
            raise SystemExit("it has never become so")
    return perf_counter() - started


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


if __name__ == "__main__":
    main()
