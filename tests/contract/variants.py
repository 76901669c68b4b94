"""Every adapter that the contract is shown with, and which of them an architecture meets when."""

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from tests.contract.architectures import ARCHITECTURES
from tests.contract.kind_variants import KIND_VARIANTS, KindVariant
from tests.contract.lora_variants import VARIANTS as LORA_VARIANTS

ALL: dict[str, KindVariant] = LORA_VARIANTS | KIND_VARIANTS
LORA = tuple(name for name in LORA_VARIANTS if name not in ("experts", "pissa"))
"""Those that a Llama serves."""

PEFT_TYPES = sorted(one.value for one in PEFT_TYPE_TO_CONFIG_MAPPING)
BARE = {
    peft_type.lower(): peft_type
    for peft_type in PEFT_TYPES
    if peft_type not in {one.peft_type for one in ALL.values()}
}
"""Kinds that no variant is of: nothing but their `peft_type` decides what becomes of them."""
EVERY = (*ALL, *BARE)

WITH_EVERYTHING = ("llama", "gpt2")
"""Architectures that meet everything in the fast run too: linear modules, and Conv1D."""
_CORE = (
    "plain",
    "all-linear",
    "lm-head",
    "bias",
    "dora",
    "dora-bias",
    "lora-embedding-head",
    "lora-saved-head",
    "alora",
    "hira",
    "ia3",
    "ln-tuning",
    "lokr",
    "multitask-prompt",
    "oft",
    "prefix",
    "prompt",
    "road-1",
    "trainable-tokens",
)
"""At least one for every mechanism of the run time."""
_NUM_SHARES = 7


def peft_type_of(name: str) -> str:
    return ALL[name].peft_type if name in ALL else BARE[name]


def fast_variants(architecture: str) -> tuple[str, ...]:
    """The core, and a share of the others that is another one on the next architecture."""
    if architecture in WITH_EVERYTHING:
        return EVERY
    others = [name for name in EVERY if name not in _CORE]
    number = list(ARCHITECTURES).index(architecture)
    return (*_CORE, *others[number % _NUM_SHARES :: _NUM_SHARES])
