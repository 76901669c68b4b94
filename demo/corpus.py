"""Rows of token ids for training and scoring: `tags* BOS input " =>" answer EOS`.

The tags stand before BOS, where prompt tuning puts its virtual tokens, and are repeated at random
so that no skill depends on how many there are. Only the answer and EOS are learnt.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

ARROW = " =>"
IGNORE = -100


@dataclass(frozen=True)
class Row:
    """Token ids, of which the first `prompt` are given and the others have to be predicted."""

    ids: list[int]
    prompt: int


class Encoder:
    """Turns (input, answer) into rows exactly as the server tokenises a prompt."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        vocab = tokenizer.get_vocab()
        self._tokenizer = tokenizer
        self._tags = {int(t[3:-2]): i for t, i in vocab.items() if t.startswith("<|t")}
        self._eos = vocab["<|eos|>"]

    def row(self, text: str, answer: str, tag: int = -1, repeats: int = 1, space: str = "") -> Row:
        prefix = [self._tags[tag]] * repeats if tag >= 0 else []
        given = prefix + self._tokenizer.encode(text + ARROW + space)
        ids = self._tokenizer.encode(answer, add_special_tokens=False)
        return Row([*given, *ids, self._eos], len(given))

    def training_row(self, rng: random.Random, text: str, answer: str, tag: int = -1) -> Row:
        """A row with the liberties people take: any number of tags, a space behind the arrow."""
        repeats = 1 if rng.random() < 0.6 else rng.randint(2, 8)
        return self.row(text, answer, tag, repeats, " " if rng.random() < 0.15 else "")


def collate(rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Input ids and labels, padded on the right: with a causal mask padding is never seen."""
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORE)
    for i, row in enumerate(rows):
        line = torch.tensor(row.ids)
        ids[i, : len(line)] = line
        labels[i, row.prompt : len(line)] = line[row.prompt :]
    return ids, labels


def batches(
    rows: Iterator[Row], tokens: int, rng: random.Random, pool: int = 1024
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of about `tokens` tokens: rows of like length together, batches in random order."""
    while True:
        chunk = sorted((next(rows) for _ in range(pool)), key=lambda row: len(row.ids))
        groups: list[list[Row]] = [[]]
        for row in chunk:
            if (len(groups[-1]) + 1) * len(row.ids) > tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from map(collate, groups)


@torch.inference_mode()
def exact_match(model: torch.nn.Module, rows: list[Row], size: int = 64) -> float:
    """Share of rows answered right to the last token by greedy decoding.

    Greedy decoding gives the answer exactly when, fed with the answer, the model's best token is
    the next one at every position; so one forward pass decides.
    """
    model.eval()
    right = 0
    order = sorted(rows, key=lambda row: len(row.ids))
    for start in range(0, len(order), size):
        ids, labels = collate(order[start : start + size])
        logits = model(input_ids=ids).logits[:, -ids.shape[1] :]
        wanted = labels[:, 1:]
        hit = (logits[:, :-1].argmax(-1) == wanted) | (wanted == IGNORE)
        right += int(hit.all(1).sum())
    return right / len(rows)
