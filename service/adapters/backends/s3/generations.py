"""What lies of an original in a bucket, read off the keys.

    objects/<digest>/<generation>/files/<name>     its files
    objects/<digest>/<generation>/state/<n>.json   what has become of it, created if absent

Whoever adds an original writes a generation of his own: the files, then state 0, `present`. Whoever
removes one creates the next state, `removed`, of which the files stay; then he, or whoever comes
after him, creates the one after it: `present` again, or `gone`, whereupon all is deleted, the last
state at the very end. So of all who move a generation on one wins each step, and odd numbers are
`removed`. Who sees less than all of it, sees a generation that is not whole and counts for nothing.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from service.adapters.backends.s3.bucket import Listed
from service.adapters.objects import DIGEST

ROOT = "objects/"
_KEY = re.compile(
    ROOT + rf"(?P<digest>{DIGEST.pattern})/(?P<name>[0-9a-f]{{32}})/"
    r"(?:files/(?P<file>[^/]+)|state/(?P<number>[0-9]{4})\.json)"
)


@dataclass(slots=True)
class Generation:
    digest: str
    name: str
    files: list[str] = field(default_factory=list)
    num_bytes: int = 0
    """Of the files."""
    states: dict[int, float] = field(default_factory=dict)
    """When each was written, by its number; 0 = just now."""
    written_at: float = 0.0
    """The last of all."""

    @property
    def next_state(self) -> int:
        return max(self.states, default=-1) + 1

    @property
    def is_begun(self) -> bool:
        """Somebody writes the files, or has died over it."""
        return not self.states

    @property
    def is_hollow(self) -> bool:
        """It was gone already when somebody moved it on."""
        return bool(self.states) and not self.files

    @property
    def is_removed(self) -> bool:
        """And neither put back nor gone."""
        return self.next_state > 0 and self.next_state % 2 == 0

    def file_key(self, name: str) -> str:
        return f"{self._folder}/files/{name}"

    def state_key(self, number: int) -> str:
        return f"{self._folder}/state/{number:04d}.json"

    @property
    def _folder(self) -> str:
        return f"{ROOT}{self.digest}/{self.name}"


def generations_of(listing: Iterable[Listed]) -> Iterator[Generation]:
    """Of keys in their order."""
    parsed = ((match, one) for one in listing if (match := _KEY.fullmatch(one.key)))
    for (digest, name), group in groupby(parsed, lambda pair: (pair[0]["digest"], pair[0]["name"])):
        generation = Generation(digest, name)
        for match, one in group:
            generation.written_at = max(generation.written_at, one.modified_at)
            if match["file"] is None:
                generation.states[int(match["number"])] = one.modified_at
            else:
                generation.files.append(match["file"])
                generation.num_bytes += one.num_bytes
        yield generation
