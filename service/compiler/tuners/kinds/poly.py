"""Poly: skills mixed by task, one product of A and B for every task (arXiv 2202.13914).

peft `tuners/poly/layer.py`: with `w = sigmoid(logits) / sum` by split, `A = sum_s w_s A_s` and
`B = sum_s w_s B_s`, the splits of A lie behind each other on the inputs, those of B on the outputs,
and the product is divided by the rank.
"""

from typing import Any

import torch


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor]:
    tasks = torch.arange(layer.n_tasks[adapter])
    weights = layer.poly_router[adapter](task_ids=tasks, input_ids=None)
    a, b = layer.poly_lora_A[adapter].float(), layer.poly_lora_B[adapter].float()
    mixed_a = torch.einsum("tqs,qsdr->trqd", weights.float(), a).flatten(2)
    mixed_b = torch.einsum("tqs,qsrd->tqdr", weights.float(), b).flatten(1, 2)
    return {"task_a": mixed_a, "task_b": mixed_b / layer.r[adapter]}
