"""Seven billion parameters on a GPU, with none to 128 adapters"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.bench.engine.figures import Figure
from tests.bench.engine.models import FIRST_WORD
from tests.bench.engine.runs import median_ratio, take_turns
from tests.bench.engine.setup import RANK, Setup
from tests.server import Server

BASE = "base-l"
WIDTHS = (1, 8, 32, 128, 256)
NUM_ADAPTERS = 128
MIXED, MIXED_LIMIT, FLOOR_LIMIT = 32, 0.9, 0.6
_ROUNDS = 3
_SETTINGS = {
    "device": "cuda",
    "dtype": "bfloat16",
    "kv_bytes": 40 << 30,
    "device_adapter_bytes": 16 << 30,
    "host_adapter_bytes": 16 << 30,
    "max_num_seqs": WIDTHS[-1],
    "max_num_batched_tokens": 4096,
}


def measure(setup: Setup) -> Iterator[Figure]:
    """Nothing where there is no GPU."""
    if not torch.cuda.is_available():
        return
    adapters = setup.same_rank(BASE, NUM_ADAPTERS)
    with setup.server(BASE, adapters, **_SETTINGS) as server:
        yield _decode(setup, server)
        for width in WIDTHS:
            yield from _at(setup, server, adapters, width)
        ours = _speed(setup, server, adapters[:MIXED], MIXED)
    theirs = _peft_tokens_per_s(setup, adapters[:MIXED])
    note = f"peft's mixed batch: {theirs:,.0f} tokens/s"
    yield Figure(f"c={MIXED}: {MIXED} adapters, served / peft", ours / theirs, note=note)


def _at(setup: Setup, server: Server, adapters: list[str], width: int) -> Iterator[Figure]:
    """The base alone, and with as many adapters as there are answers at most."""
    counts = [count for count in (1, 8, 32, 128) if count <= width]
    arms = {"base": partial(_speed, setup, server, [BASE], width)} | {
        str(count): partial(_speed, setup, server, adapters[:count], width) for count in counts
    }
    setup.run(server, BASE, adapters[: counts[-1]], width, num_requests=width)
    speed = take_turns(arms, _ROUNDS)
    yield Figure(f"c={width}: base alone", median(speed["base"]), "tokens/s")
    for count in counts:
        limit = MIXED_LIMIT if count == width == MIXED else None
        yield Figure(
            f"c={width}: {count} adapters of rank {RANK} / base",
            median_ratio(speed[str(count)], speed["base"]),
            at_least=limit,
        )


def _speed(setup: Setup, server: Server, models: list[str], width: int) -> float:
    return setup.run(server, BASE, models, width, num_requests=width).tokens_per_s


def _decode(setup: Setup, server: Server) -> Figure:
    setup.run(server, BASE, [BASE], 1)
    step = median(setup.run(server, BASE, [BASE], 1).step_ms for _ in range(_ROUNDS))
    rate = _read_bytes_per_s()
    floor = 2000 * setup.load.sizes[BASE].num_parameters / rate
    note = (
        f"{torch.cuda.get_device_name()}: {floor:.1f} ms at {rate / 1e9:,.0f} GB/s; "
        f"a step takes {step:.1f} ms"
    )
    return Figure(
        "reading the weights once / decode step, c=1", floor / step, at_least=FLOOR_LIMIT, note=note
    )


def _read_bytes_per_s() -> float:
    buffer = torch.ones(1 << 30, device="cuda", dtype=torch.float32)
    best = float("inf")
    for _ in range(5):
        torch.cuda.synchronize()
        started = perf_counter()
        buffer.sum()
        torch.cuda.synchronize()
        best = min(best, perf_counter() - started)
    return buffer.nbytes / best


@torch.inference_mode()
def _peft_tokens_per_s(setup: Setup, names: list[str]) -> float:
    """One padded batch in which each row has its own adapter (peft's `adapter_names`)."""
    base = AutoModelForCausalLM.from_pretrained(
        setup.base(BASE), dtype=torch.bfloat16, device_map="cuda"
    )
    folders: dict[str, Path] = {name: setup.adapter_folder(BASE, name) for name in names}
    model = PeftModel.from_pretrained(base, folders[names[0]], adapter_name=names[0])
    for name in names[1:]:
        model.load_adapter(folders[name], adapter_name=name)
    vocabulary, load = setup.load.sizes[BASE].vocabulary, setup.load
    shape = (len(names), load.num_prompt)
    prompts = torch.randint(FIRST_WORD, vocabulary, shape, device="cuda")

    def generate(count: int) -> float:
        started = perf_counter()
        model.generate(
            input_ids=prompts,
            attention_mask=torch.ones_like(prompts),
            adapter_names=names,
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
            pad_token_id=0,
        )
        torch.cuda.synchronize()
        return perf_counter() - started

    generate(2)
    return len(names) * load.num_output / generate(load.num_output)
