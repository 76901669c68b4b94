"""How a generation is moved on: each step is created if absent, so of all who take it one wins."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from service.adapters.backends.s3.bucket import Bucket
from service.adapters.backends.s3.failures import Damaged
from service.adapters.backends.s3.generations import Generation

State = Mapping[str, Any]
"""JSON: what it `is`, and of what is not gone the `manifest` and the names of its `files`."""

PRESENT, REMOVED, GONE = "present", "removed", "gone"


@dataclass(frozen=True, slots=True)
class Moving:
    """A generation that is removed, or on its way in or out. A `Removed`."""

    generation: Generation
    state: State
    """The last one; empty when there is none that can be read."""
    bucket: Bucket

    @classmethod
    def of(cls, generation: Generation, bucket: Bucket) -> "Moving":
        state: Any = None
        if not generation.is_begun:
            with suppress(ValueError, Damaged):
                key = generation.state_key(generation.next_state - 1)
                state = json.loads(bucket.get(key) or b"")
        return cls(generation, state if isinstance(state, dict) else {}, bucket)

    @property
    def digest(self) -> str:
        return self.generation.digest

    @property
    def removed_at(self) -> float:
        one = self.generation
        if one.is_begun:
            return one.written_at
        last = one.next_state - 1
        return one.states[last] or self.bucket.modified_at(one.state_key(last)) or 0.0

    @property
    def is_gone(self) -> bool:
        """Nothing will ever be made of it, and somebody may have died over deleting it."""
        return self.state.get("is") == GONE or self.generation.is_hollow

    def put_back(self) -> None:
        if self.is_gone or self.generation.is_begun:
            self.forget()
        elif self.on_to(PRESENT) and not self._was_there():
            self.finish()

    def forget(self) -> None:
        if self.is_gone or self.on_to(GONE):
            self.finish()

    def on_to(self, name: str) -> bool:
        """False when somebody else has decided what becomes of it."""
        one = self.generation
        try:
            key = one.state_key(one.next_state)
            self.bucket.create(key, json.dumps({**self.state, "is": name}).encode())
        except FileExistsError:
            return False
        one.states[one.next_state] = 0.0
        return True

    def _was_there(self) -> bool:
        """When it was moved on. What is gone loses its last state after all others, so whoever
        comes late finds the one before missing."""
        one = self.generation
        return self.bucket.modified_at(one.state_key(one.next_state - 2)) is not None

    def finish(self) -> None:
        """All of it goes, and while it does nobody takes it for anything."""
        one = self.generation
        for name in one.files:
            self.bucket.delete(one.file_key(name))
        for number in sorted(one.states):
            self.bucket.delete(one.state_key(number))


@dataclass(frozen=True, slots=True)
class Taken:
    """All that one remover has taken away of an original. A `Removed`."""

    digest: str
    moving: tuple[Moving, ...]

    @property
    def removed_at(self) -> float:
        return max((one.removed_at for one in self.moving), default=0.0)

    def put_back(self) -> None:
        for one in self.moving:
            one.put_back()

    def forget(self) -> None:
        for one in self.moving:
            one.forget()
