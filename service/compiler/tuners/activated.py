"""aLoRA: what acts only from the last invocation of the prompt on.

Rows before it are the base's for the engine, so nothing of the adapter may act on them in peft
either. There only LoRA's own layers know of the invocation.
"""

from collections.abc import Iterable
from typing import Any

from service.compiler.refusals import Refusals
from service.compiler.terms import SitePlan

_FIELD = "alora_invocation_tokens"
_SWITCHED = frozenset({"a", "b", "d"})


def invocation_tokens(config: Any, refusals: Refusals) -> tuple[int, ...]:
    """Empty for every other kind."""
    tokens = getattr(config, _FIELD, None) or ()
    if isinstance(tokens, list | tuple) and all(type(one) is int and one >= 0 for one in tokens):
        return tuple(tokens)
    refusals.add("invalid_field", _FIELD, f"The config field {_FIELD!r} must be token ids.")
    return ()


def check_activated(
    sites: Iterable[SitePlan], changed_parameters: list[str], refusals: Refusals
) -> None:
    beside = [site.site for site in sites if site.parameters or not set(site.terms) <= _SWITCHED]
    for name in beside + changed_parameters:
        message = f"What replaces {name!r} would act before the invocation too, which is refused."
        refusals.add("unsupported_field", _FIELD, message)
