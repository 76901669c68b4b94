"""The one way to Redis. Nothing that lies there is the truth: all of it may be gone at any moment,
and is made again from the store and from what each replica remembers.

Keys, all below the prefix; `<store>` is the identity of the store, so that two fleets that share a
Redis by mistake do not read each other's records:

    replicas                    sorted set: process → until when it counts as alive (ms); 100 s
    about                       hash: process → JSON, what it says about itself; 100 s
    epoch                       text: drawn when it is missing; another one = Redis was empty
    mirror:<store>:logs         set: names of the logs below
    mirror:<store>:log:<log>    list: the records of a log, JSON, each at its number
    announce:<store>            channel: JSON {"log", "length"}
    meter:<tenant>              hash: sums and amounts, see `counter_scripts.py`; 3 min
    requests:<tenant>           sorted set: process/first ms → last ms, of each grain; 3 min
    tokens:<tenant>             sorted set: the same of tokens; 3 min
    running:<tenant>:<process>  hash: ticket → when it began, tokens, when they were taken; 3 min
    import:<id>                 text: JSON, how an import goes; as long as the settings say
    import:<id>:alive           text: its replica has lately told so; 10 s
    import:<id>:stop            text: somebody asks to stop it; as long as the import
    imports:<tenant>            sorted set: import → when it began (s), of the latest and of those
                                that run; as long as the import

Times are what remains after the last change; the epoch and the mirror stay. A process is a replica
since its last start. Scripts are in `scripts.py` and `counter_scripts.py`. They use several keys at
once, so all keys lie on one server: replicas of Redis behind one address, but no Redis Cluster.

A call that fails makes the link *down*. From then on calls fail at once, without a look at the
network, until one thread, which also is the replica's heartbeat, has reached Redis again. So a slow
or dead Redis costs the first caller a fraction of a second and the others nothing.
"""

import asyncio
import contextlib
import json
import secrets
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, cast

import redis
import redis.asyncio

from service.adapters.backends.redis import scripts
from service.adapters.backends.redis.address import RedisAddress
from service.adapters.backends.redis.clients import async_client, client
from service.adapters.backends.redis.health import LinkHealth
from service.adapters.backends.redis.status import LinkPace, LinkStatus
from service.errors import StoreUnavailable

_Args = Sequence[str | int]

_ERRORS = (redis.RedisError, OSError, TimeoutError)


class RedisLink:
    def __init__(
        self,
        address: RedisAddress,
        key_prefix: str,
        replica: str,
        *,
        about: dict[str, Any] | None = None,
        pace: LinkPace | None = None,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        """`about` is what the others may know of this replica. `clock_ms`, for tests, takes the
        place of the time of Redis."""
        self.replica = replica
        self.member = f"{replica}~{secrets.token_hex(4)}"
        """This process, which is not the one that went by the same name before it."""
        self.pace = pace or LinkPace()
        self.address = address
        self._prefix = key_prefix
        self._about = json.dumps(about or {})
        self._clock_ms = clock_ms
        self._health = LinkHealth(address, self.pace)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._sync = client(address, self.pace.timeout_s, self.pace.timeout_s)
        self._bulk = client(address, self.pace.bulk_timeout_s, self.pace.timeout_s)
        self._loop_client: redis.asyncio.Redis | None = None

    def __repr__(self) -> str:
        return f"RedisLink({self.address}, {self._prefix!r}, {self.replica!r})"

    @property
    def is_up(self) -> bool:
        return self.status.is_up

    @property
    def status(self) -> LinkStatus:
        return self._health.status

    def on_change(self, listener: Callable[[LinkStatus], None]) -> None:
        """Called whenever `is_up`, `epoch` or `num_replicas` is another, in whatever thread saw
        it."""
        self._health.listeners.append(listener)

    def start(self) -> None:
        """One attempt now; whether it succeeds or not, it goes on in a thread. Blocking."""
        self._beat()
        self._thread = threading.Thread(target=self._keep_beating, name="redis-link", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The others need not wait for the end of this replica's heartbeat. Blocking."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(StoreUnavailable):
            self.call(scripts.LEAVE, ["replicas", "about"], [self.member])
        self._health.went_down()
        self._sync.close()
        self._bulk.close()

    async def aclose(self) -> None:
        """What belongs to the event loop."""
        client, self._loop_client = self._loop_client, None
        if client is not None:
            await client.aclose()

    def look_again(self) -> None:
        """Now, rather than at the next heartbeat: somebody has seen something strange."""
        self._wake.set()

    def key(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)

    def now(self) -> str:
        """The argument `now` of scripts."""
        return "" if self._clock_ms is None else str(self._clock_ms())

    def call(self, script: str, keys: Sequence[str], args: _Args) -> Any:
        """Run a script that changes nothing when it runs again. Keys are given without the prefix.
        Blocking and thread-safe. Raises `StoreUnavailable`, here and below."""
        return self._ask(lambda client: _run(client, script, self._keys(keys), args), self._sync)

    def bulk_call(self, script: str, keys: Sequence[str], args: _Args) -> Any:
        """The same with time for many records."""
        return self._ask(lambda client: _run(client, script, self._keys(keys), args), self._bulk)

    def members(self, key: str) -> set[str]:
        return cast(
            "set[str]", self._ask(lambda client: client.smembers(self.key(key)), self._bulk)
        )

    def lists(self, keys: Sequence[str]) -> list[list[str]]:
        """In one round trip: the caller bounds how many."""

        def read(client: redis.Redis) -> list[list[str]]:
            with client.pipeline(transaction=False) as pipeline:
                for key in self._keys(keys):
                    pipeline.lrange(key, 0, -1)
                return pipeline.execute()

        return cast("list[list[str]]", self._ask(read, self._bulk))

    def publish(self, channel: str, message: str) -> None:
        self._ask(lambda client: client.publish(self.key(channel), message), self._sync)

    def live_replicas(self) -> dict[str, dict[str, Any]]:
        """What each says about itself, by its id."""
        found = self._ask(lambda client: client.hgetall(self.key("about")), self._sync)
        return {member.partition("~")[0]: json.loads(about) for member, about in found.items()}

    async def acall(self, script: str, keys: Sequence[str], args: _Args) -> Any:
        """`call` for the event loop. Whoever is cancelled while it waits leaves the call running,
        so that no answer is ever left over for the next one."""
        self._check_up()
        return await asyncio.shield(asyncio.ensure_future(self._acall(script, keys, args)))

    async def listen(self, channel: str) -> AsyncGenerator[str | None]:
        """For ever. None: from now on it is heard, but what came before may have been missed."""
        attempts = 0
        while True:
            if self.status.is_up:
                attempts += 1
                try:
                    async with contextlib.aclosing(self._subscription(channel)) as messages:
                        async for message in messages:
                            attempts = 0
                            yield message
                except _ERRORS as error:
                    self._health.count(error)
            await asyncio.sleep(self._health.pause_s(attempts))

    def _keys(self, keys: Sequence[str]) -> list[str]:
        return [self._prefix + key for key in keys]

    def _check_up(self) -> None:
        if not self.status.is_up:
            raise _unavailable()

    def _ask(self, work: Callable[[redis.Redis], Any], client: redis.Redis) -> Any:
        self._check_up()
        try:
            return self._twice(work, client)
        except _ERRORS as error:
            self._fail(error)
            raise _unavailable() from None

    def _twice(self, work: Callable[[redis.Redis], Any], client: redis.Redis) -> Any:
        try:
            return work(client)
        except redis.RedisError as error:
            if not _may_be_the_connection(error):
                raise
            self._health.count(error)
            client.connection_pool.disconnect(inuse_connections=False)
            return work(client)

    async def _acall(self, script: str, keys: Sequence[str], args: _Args) -> Any:
        if self._loop_client is None:
            self._loop_client = async_client(self.address, self.pace.timeout_s)
        client, keys = self._loop_client, self._keys(keys)
        try:
            async with asyncio.timeout(2 * self.pace.timeout_s):
                try:
                    return await _arun(client, script, keys, args)
                except redis.RedisError as error:
                    if not _may_be_the_connection(error):
                        raise
                    self._health.count(error)
                    await client.connection_pool.disconnect(inuse_connections=False)
                    return await _arun(client, script, keys, args)
        except _ERRORS as error:
            self._fail(error)
            with contextlib.suppress(*_ERRORS):
                await client.connection_pool.disconnect(inuse_connections=False)
            raise _unavailable() from None

    async def _subscription(self, channel: str) -> AsyncGenerator[str | None]:
        """Until it is interrupted, which silence is too: it asks for a sign of life. And until
        anything has failed, since the address may lead to another server from then on."""
        client = async_client(self.address, self.pace.timeout_s)
        num_errors = self.status.num_errors
        try:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe(self.key(channel))
                while self.status.num_errors == num_errors:
                    message = await pubsub.get_message(timeout=self.pace.heartbeat_s)
                    if message is None:
                        await pubsub.ping()
                        message = await pubsub.get_message(timeout=self.pace.timeout_s)
                    if message is None:
                        return
                    if message["type"] == "subscribe":
                        yield None
                    elif message["type"] == "message":
                        yield message["data"]
        finally:
            await client.aclose()

    def _keep_beating(self) -> None:
        while not self._stopping.is_set():
            is_up = self.status.is_up
            self._wake.wait(self.pace.heartbeat_s if is_up else self._health.pause_s())
            if self._wake.is_set():
                self._wake.clear()
                self._stopping.wait(self._health.pause_s())
            if not self._stopping.is_set():
                self._beat()

    def _beat(self) -> None:
        alive_ms = int(self.pace.alive_s * 1000)
        args: _Args = [self.now(), self.member, alive_ms, self._about, secrets.token_hex(8)]
        keys = self._keys(["replicas", "about", "epoch"])
        try:
            epoch, num_replicas = self._twice(
                lambda client: _run(client, scripts.BEAT, keys, args), self._sync
            )
        except Exception as error:  # whatever it is: who else would look again?
            self._health.attempts += 1
            self._fail(error)
        else:
            self._health.came_up(epoch, num_replicas)

    def _fail(self, error: Exception) -> None:
        was_up = self.is_up
        self._health.fail(error)
        if was_up:
            self._wake.set()


def _run(client: redis.Redis, script: str, keys: Sequence[str], args: _Args) -> Any:
    return client.register_script(script)(keys=keys, args=args)


def _arun(
    client: redis.asyncio.Redis, script: str, keys: Sequence[str], args: _Args
) -> Awaitable[Any]:
    return client.register_script(script)(keys=keys, args=args)


def _may_be_the_connection(error: redis.RedisError) -> bool:
    """It may be old: to a server that has restarted, or that is a replica by now. A script that
    meets a replica fails with an error of its own that quotes this one."""
    if isinstance(error, redis.AuthenticationError):
        return False
    return isinstance(error, redis.ConnectionError) or "READONLY" in str(error)


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable("The replicas of this service cannot agree on a change right now.")
