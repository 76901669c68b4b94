"""Trains the shipped adapters with peft on the frozen demo base, one task and one flavour each.

python demo/train_adapters.py --base demo/demo-base --out adapters_store
"""

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from corpus import Encoder, Row, batches, exact_match
from peft import LoraConfig, PeftConfig, PeftModel, TaskType, get_peft_model
from tasks import DEMO_TASKS, Task, examples, held_out
from transformers import AutoTokenizer, LlamaForCausalLM

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
STEPS = {"title-case": 600, "slug": 600}  # the longest rows with the rarest special cases


def recipe(name: str) -> PeftConfig:
    """The adapter of a task; together they cover the flavours of LoRA that people train."""
    match name:
        case "date-iso":
            return lora(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"])
        case "roman":
            return lora(r=16, lora_alpha=32, target_modules=ATTENTION + MLP)
        case "slug":
            return lora(r=16, lora_alpha=8, target_modules=ATTENTION, use_rslora=True)
        case "to-json":
            return lora(r=8, lora_alpha=16, target_modules=ATTENTION + MLP, use_dora=True)
        case "title-case":
            return lora(
                r=8,
                lora_alpha=16,
                target_modules=[*ATTENTION, "up_proj", "down_proj"],
                rank_pattern={"down_proj": 16, "layers.0.q_proj": 4},
                alpha_pattern={"down_proj": 32},
            )
        case "phone-e164":
            return lora(
                r=32, lora_alpha=32, target_modules=["v_proj", "o_proj"], layers_to_transform=[1, 2]
            )
        case "time-24h":
            targets = ["q_proj", "v_proj", "lm_head"]
            return lora(r=4, lora_alpha=8, target_modules=targets, lora_bias=True)
    raise ValueError(f"no recipe for {name}")


def lora(**options: Any) -> LoraConfig:
    return LoraConfig(task_type=TaskType.CAUSAL_LM, lora_dropout=0.0, **options)


def training_rows(encoder: Encoder, task: Task, seed: int) -> Iterator[Row]:
    rng = random.Random(seed)
    for text, answer in examples(task, f"adapter-{seed}"):
        yield encoder.training_row(rng, text, answer)


def train(
    model: PeftModel, stream: Iterator[tuple[torch.Tensor, torch.Tensor]], lr: float, steps: int
) -> None:
    wanted = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(wanted, lr=lr, weight_decay=0.0)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 20, (steps - step) / (0.5 * steps))
        ids, labels = next(stream)
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(wanted, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            print(f"  step {step} loss {loss.item():.4f}", flush=True)


def train_adapter(name: str, config: PeftConfig, args: argparse.Namespace) -> float:
    """Trains, saves and loads again; returns the held-out exact match of what was saved."""
    torch.manual_seed(args.seed)
    encoder = Encoder(AutoTokenizer.from_pretrained(args.base))
    model = get_peft_model(load_base(args.base), config)
    rows = training_rows(encoder, DEMO_TASKS[name], args.seed)
    stream = batches(rows, args.tokens, random.Random(args.seed))
    train(model, stream, args.lr, STEPS.get(name, args.steps))
    save(model, args.out / name)
    saved = PeftModel.from_pretrained(load_base(args.base), args.out / name)
    return score(saved, encoder, DEMO_TASKS[name])


def load_base(path: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(path, dtype=torch.float32)


def score(model: torch.nn.Module, encoder: Encoder, task: Task) -> float:
    return exact_match(model, [encoder.row(*pair) for pair in held_out(task, 300)])


def save(model: PeftModel, path: Path) -> None:
    """What peft writes, less its model card, and with the base's public name."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = "demo-base"
    if getattr(config, "target_modules", None):  # a set: its order changes every time
        config.target_modules = sorted(config.target_modules)
    model.save_pretrained(path, save_embedding_layers=False)
    (path / "README.md").unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=Path("demo/demo-base"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", default=list(DEMO_TASKS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=2000, help="per step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    encoder = Encoder(AutoTokenizer.from_pretrained(args.base))
    for name in args.tasks:
        start = time.monotonic()
        alone = score(load_base(args.base), encoder, DEMO_TASKS[name])
        exact = train_adapter(name, recipe(name), args)
        seconds = time.monotonic() - start
        print(f"{name}: base alone {alone:.1%}, adapter {exact:.1%}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
