"""`Announcements` over a channel of Redis."""

import json
from collections.abc import AsyncIterator

from service.adapters.backends.announcements import Announcement
from service.adapters.backends.redis.link import RedisLink


class RedisAnnouncements:
    def __init__(self, link: RedisLink, store_id: str) -> None:
        self._link = link
        self._channel = f"announce:{store_id}"

    @property
    def is_up(self) -> bool:
        return self._link.is_up

    def announce(self, announcement: Announcement) -> None:
        message = {"log": announcement.log, "length": announcement.length}
        self._link.publish(self._channel, json.dumps(message))

    async def listen(self) -> AsyncIterator[Announcement | None]:
        async for message in self._link.listen(self._channel):
            yield None if message is None else _parse(message)


def _parse(message: str) -> Announcement | None:
    """Whatever cannot be read may have been anything: compare everything."""
    try:
        fields = json.loads(message)
        return Announcement(str(fields["log"]), int(fields["length"]))
    except (ValueError, KeyError, TypeError):
        return None
