"""Trains the demo base model: one small Llama that knows many text skills, each behind a tag.

    python demo/train_base.py --out demo/demo-base

A skill's tag token asks for it; without a tag the model copies its input. Prompts of the demo
carry no tag, so the base alone copies, and an adapter's work is to ask for its skill.
"""

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from corpus import IGNORE, Encoder, Row, batches, exact_match
from tasks import COPY, DEMO_TASKS, TASKS, examples, held_out
from tokenizer import build_tokenizer
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

COPY_SHARE = 0.15
DEMO_WEIGHT = 3
SHORTEST, LONGEST = 16, 110


def build_model(tokenizer: PreTrainedTokenizerFast, layers: int, hidden: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def training_rows(encoder: Encoder, seed: int, ramp: int) -> Iterator[Row]:
    """Tagged rows of every skill, and copies of the same inputs without a tag.

    The first `ramp` rows grow from short to long: copying is learnt much sooner on short rows.
    """
    rng = random.Random(seed)
    streams = {name: examples(task, f"base-{seed}") for name, task in TASKS.items()}
    weights = [DEMO_WEIGHT if name in DEMO_TASKS else 1 for name in TASKS]
    plain = examples(COPY, f"base-{seed}")
    count = 0
    while True:
        name = rng.choices(list(TASKS), weights)[0]
        text, answer = next(streams[name])
        tag = TASKS[name].tag
        if rng.random() < COPY_SHARE:
            text, _ = next(plain) if rng.random() < 0.4 else (text, "")
            answer, tag = text, -1
        row = encoder.training_row(rng, text, answer, tag)
        if len(row.ids) <= SHORTEST + (LONGEST - SHORTEST) * count / ramp:
            count += 1
            yield row


def build_optimizers(model: LlamaForCausalLM, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, Adam for everything else."""
    layers = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is q for q in layers)]
    muon = torch.optim.Muon(layers, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)]


def rate(step: int, steps: int) -> float:
    """Share of the learning rate: warm-up, then flat, then down to zero over the last 40 %."""
    return min(1.0, (step + 1) / 50, (steps - step) / (0.4 * steps))


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    learnt = labels[:, 1:] != IGNORE
    return cross_entropy(model.lm_head(hidden[learnt]), labels[:, 1:][learnt])


def report(model: LlamaForCausalLM, encoder: Encoder, count: int) -> dict[str, float]:
    """Held-out exact match of every skill under its tag, and of copying without one."""
    skills = {name: (held_out(task, count), task.tag) for name, task in TASKS.items()}
    skills["copy"] = (held_out(COPY, count), -1)
    return {
        name: exact_match(model, [encoder.row(text, answer, tag) for text, answer in pairs])
        for name, (pairs, tag) in skills.items()
    }


def train(model: LlamaForCausalLM, encoder: Encoder, args: argparse.Namespace) -> None:
    optimizers = build_optimizers(model, args.lr)
    stream = batches(
        training_rows(encoder, args.seed, args.ramp), args.tokens, random.Random(args.seed)
    )
    start, tokens, mean = time.monotonic(), 0, 5.7
    for step in range(args.steps):
        ids, labels = next(stream)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = args.lr * rate(step, args.steps)
        loss = loss_of(model, ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        tokens += ids.numel()
        mean += 0.05 * (loss.item() - mean)
        if step % 50 == 0:
            seconds = time.monotonic() - start
            print(f"step {step} loss {mean:.4f} {seconds:.0f}s {tokens / seconds:.0f} tok/s")
        if step % args.every == args.every - 1:
            print({name: round(score, 2) for name, score in report(model, encoder, 48).items()})
            save(model, args.out)
            model.train()


def save(model: LlamaForCausalLM, out: Path) -> None:
    """Weights in bfloat16 and what `generate` needs to stop."""
    half = LlamaForCausalLM(model.config).to(torch.bfloat16)
    half.load_state_dict(model.state_dict())
    ids = {k: getattr(model.config, k) for k in ("bos_token_id", "eos_token_id", "pad_token_id")}
    half.generation_config = GenerationConfig(**ids, do_sample=False, max_new_tokens=96)
    half.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--tokens", type=int, default=2500, help="per step")
    parser.add_argument("--ramp", type=int, default=30_000, help="rows until all lengths occur")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--every", type=int, default=450)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer = build_tokenizer(tags=len(TASKS))
    tokenizer.save_pretrained(args.out)
    model = build_model(tokenizer, args.layers, args.hidden)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    train(model, Encoder(tokenizer), args)
    save(model, args.out)
    rounded = LlamaForCausalLM.from_pretrained(args.out, dtype=torch.float32)
    for name, score in report(rounded, Encoder(tokenizer), 300).items():
        print(f"{name:16} {score:.1%}")


if __name__ == "__main__":
    main()
