"""Where in a sequence its adapter acts: everywhere, or for an aLoRA from its invocation on."""

from service.core import GenerationRequest


def first_adapted_position(request: GenerationRequest) -> int | None:
    """Position of the first row that belongs to the adapter; None = all rows are the base's.

    As peft's `calculate_alora_offsets` (tuners/lora/variants.py) does for `generate`: the last
    occurrence in the prompt counts from its own first token on. It is looked for once, so an
    invocation that the model generates changes nothing, and without one the base answers.
    """
    adapter = request.adapter
    if adapter is None:
        return None
    if not adapter.invocation_tokens:
        return 0
    # An aLoRA puts nothing in front, so places in the prompt are positions.
    return _last_occurrence(request.prompt_ids, adapter.invocation_tokens)


def _last_occurrence(ids: tuple[int, ...], wanted: tuple[int, ...]) -> int | None:
    for start in range(len(ids) - len(wanted), -1, -1):
        if ids[start] == wanted[0] and ids[start : start + len(wanted)] == wanted:
            return start
    return None
