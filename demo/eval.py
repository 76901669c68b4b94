"""Scores the demo through a running server: every adapter and the base, mixed in one load.

    python demo/eval.py --url http://127.0.0.1:8000

Held-out inputs only, greedy, exact match. Exits with 1 when an adapter stays under 95 % or the
base alone reaches 10 %.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from tasks import DEMO_TASKS, held_out

ADAPTER_BAR = 0.95
BASE_BAR = 0.10


@dataclass(frozen=True)
class Job:
    task: str
    model: str
    text: str
    answer: str


@dataclass(frozen=True)
class Score:
    task: str
    adapter: str
    base: float
    exact: float
    n: int

    @property
    def passed(self) -> bool:
        return self.exact >= ADAPTER_BAR and self.base < BASE_BAR


def jobs_of(tasks: list[str], base: str, per_task: int) -> list[Job]:
    """Each held-out input once for its adapter and once for the base, shuffled."""
    jobs = [
        Job(task, model, text, answer)
        for task in tasks
        for text, answer in held_out(DEMO_TASKS[task], per_task)
        for model in (task, base)
    ]
    random.Random(0).shuffle(jobs)
    return jobs


async def ask(client: httpx.AsyncClient, job: Job, errors: Counter[str]) -> bool:
    """Whether the answer is right; a request that fails counts as wrong and is remembered."""
    body = {
        "model": job.model,
        "prompt": f"{job.text} =>",
        "max_tokens": len(job.answer.encode()) + 8,
        "temperature": 0,
    }
    try:
        response = await client.post("v1/completions", json=body)
        response.raise_for_status()
    except httpx.HTTPError as error:
        errors[f"{job.model}: {error!r}"] += 1
        return False
    return bool(response.json()["choices"][0]["text"] == job.answer)


async def run(
    jobs: list[Job], url: str, key: str | None, concurrency: int
) -> tuple[set[Job], Counter[str]]:
    """Asks everything, `concurrency` requests at a time: what was answered right, what failed."""
    right: set[Job] = set()
    errors: Counter[str] = Counter()
    waiting = iter(jobs)
    headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def worker(client: httpx.AsyncClient) -> None:
        for job in waiting:
            if await ask(client, job, errors):
                right.add(job)

    base_url = url.rstrip("/") + "/"
    client = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=120)
    async with client, asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker(client))
    return right, errors


def describe(folder: Path) -> str:
    """Kind, rank and targets of an adapter, from its config."""
    config = json.loads((folder / "adapter_config.json").read_text())
    kind = config["peft_type"]
    if kind == "LORA":
        flavours = {"use_dora": "DoRA", "use_rslora": "rsLoRA"}
        kind = next((label for flag, label in flavours.items() if config.get(flag)), "LoRA")
    extras = ("rank_pattern", "layers_to_transform", "lora_bias", "num_virtual_tokens")
    parts = [kind, f"r={config['r']}" if "r" in config else ""]
    parts.append(" ".join(sorted(config.get("target_modules") or ())))
    parts += [f"{extra}={config[extra]}" for extra in extras if config.get(extra)]
    return ", ".join(part for part in parts if part)


def scores(jobs: list[Job], right: set[Job], base: str, store: Path) -> list[Score]:
    found = []
    for task in dict.fromkeys(sorted(job.task for job in jobs)):
        shares = []
        for model in (base, task):
            mine = [job for job in jobs if job.task == task and job.model == model]
            shares.append(sum(job in right for job in mine) / len(mine))
        found.append(Score(task, describe(store / task), shares[0], shares[1], len(mine)))
    return found


def table(found: list[Score]) -> str:
    lines = ["| task | adapter | base alone | adapter | n |", "|---|---|---:|---:|---:|"]
    for s in found:
        lines.append(f"| {s.task} | {s.adapter} | {s.base:.1%} | {s.exact:.1%} | {s.n} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--api-key", default=os.environ.get("OPENAI_API_KEY"))
    parser.add_argument("--base", default="demo-base", help="the base model's name")
    parser.add_argument("--store", type=Path, default=Path("adapters_store"))
    parser.add_argument("--per-task", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--json", type=Path, help="write the scores here too")
    args = parser.parse_args()
    tasks = [name for name in DEMO_TASKS if (args.store / name).is_dir()]
    jobs = jobs_of(tasks, args.base, args.per_task)
    start = time.monotonic()
    right, errors = asyncio.run(run(jobs, args.url, args.api_key, args.concurrency))
    found = scores(jobs, right, args.base, args.store)
    print(table(found))
    print(f"\n{len(jobs)} requests in {time.monotonic() - start:.1f} s")
    for message, count in errors.most_common(5):
        print(f"failed {count} times: {message}", file=sys.stderr)
    if args.json:
        rows = [asdict(score) | {"passed": score.passed} for score in found]
        args.json.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(0 if found and not errors and all(score.passed for score in found) else 1)


if __name__ == "__main__":
    main()
