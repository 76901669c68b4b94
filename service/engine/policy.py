"""Who comes first: policies by name. Pure; they order sequences, who may run is not theirs.

Under every policy more urgent sequences (a lower `priority`) go before less urgent ones.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from service.engine.sequence import Sequence
from service.engine.virtual_tokens import MAX_TENANTS, VirtualTokens

Rank = tuple[float, ...]
"""Lower goes first; comparable between sequences of one policy at one moment."""

DEFAULT_GENERATED_WEIGHT = 2.0
"""As in the paper: a generated token counts as much as two of a prompt."""
MAX_ADAPTERS = 256
"""Counters that are remembered of those who do not wait, of the adapters of each tenant."""


class SchedulingPolicy(ABC):
    """The scheduler says who waits and what was computed. While it puts a step together ranks only
    rise."""

    @abstractmethod
    def rank(self, sequence: Sequence) -> Rank:
        """The order of starting; who ranks last among those who run gives way first."""

    def wait(self, sequence: Sequence) -> None:  # noqa: B027
        """`sequence` waits from now on."""

    def leave(self, sequence: Sequence) -> None:  # noqa: B027
        """`sequence` waits no more."""

    def charge(self, sequence: Sequence, num_prompt: int = 0, num_generated: int = 0) -> None:  # noqa: B027
        """Rows of its prompt, tokens generated; less than 0 takes a promise back."""


class FirstCome(SchedulingPolicy):
    def rank(self, sequence: Sequence) -> Rank:
        return (sequence.request.priority, sequence.arrival)


class FairShare(SchedulingPolicy):
    """Virtual token counters between tenants, and between the adapters of each.

    While two tenants both have work, their counters differ by no more than what the running
    sequences of one can still be charged.
    """

    def __init__(self, generated_weight: float = DEFAULT_GENERATED_WEIGHT) -> None:
        self._generated_weight = generated_weight
        self._tenants = VirtualTokens(MAX_TENANTS)
        self._adapters: dict[str, VirtualTokens] = {}
        """By tenant; cleared of those that `_tenants` has forgotten when there are too many."""

    def rank(self, sequence: Sequence) -> Rank:
        tenant = sequence.request.tenant
        mine = self._tenants.rank(tenant)
        adapters = self._adapters.get(tenant)
        of_adapter = adapters.rank(sequence.adapter_name) if adapters else (0.0, 0.0)
        return (sequence.request.priority, *mine, *of_adapter, sequence.arrival)

    def wait(self, sequence: Sequence) -> None:
        self._tenants.wait(sequence.request.tenant)
        self._adapters_of(sequence).wait(sequence.adapter_name)

    def leave(self, sequence: Sequence) -> None:
        self._tenants.leave(sequence.request.tenant)
        self._adapters_of(sequence).leave(sequence.adapter_name)

    def charge(self, sequence: Sequence, num_prompt: int = 0, num_generated: int = 0) -> None:
        tokens = num_prompt + self._generated_weight * num_generated
        self._tenants.charge(sequence.request.tenant, tokens)
        self._adapters_of(sequence).charge(sequence.adapter_name, tokens)

    def _adapters_of(self, sequence: Sequence) -> VirtualTokens:
        tenant = sequence.request.tenant
        found = self._adapters.get(tenant)
        if found is None:
            if len(self._adapters) >= 2 * MAX_TENANTS:
                self._forget_strangers()
            found = self._adapters[tenant] = VirtualTokens(MAX_ADAPTERS)
        return found

    def _forget_strangers(self) -> None:
        """Seldom, so that it may look at all of them."""
        for tenant in list(self._adapters):
            if tenant not in self._tenants:
                del self._adapters[tenant]


POLICIES: dict[str, Callable[[float], SchedulingPolicy]] = {
    "fair": FairShare,
    "fcfs": lambda _: FirstCome(),
}


def scheduling_policy(
    name: str, generated_weight: float = DEFAULT_GENERATED_WEIGHT
) -> SchedulingPolicy:
    """Raises `KeyError` with the known names when `name` is not one of them."""
    if name not in POLICIES:
        raise KeyError(f"unknown scheduling policy {name!r}; known: {', '.join(sorted(POLICIES))}")
    return POLICIES[name](generated_weight)
