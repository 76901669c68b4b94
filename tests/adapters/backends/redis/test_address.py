"""The URL of Redis is read whole or refused, and what is secret in it stays so."""

import pytest

from service.adapters.backends.redis.address import RedisAddress, parse_address
from service.errors import ConfigurationError
from service.settings import resolve_settings


def test_every_part_is_read() -> None:
    address = parse_address("rediss://ann:p%40ss@cache.example:7000/3?ssl_ca_certs=/etc/ca.pem")
    secrets = {"username": "ann", "password": "p@ss", "ssl_ca_certs": "/etc/ca.pem"}
    assert address == RedisAddress("cache.example", 7000, 3, True, secrets)
    assert address.arguments["password"] == "p@ss"


def test_defaults_are_those_of_redis() -> None:
    assert parse_address("redis://cache") == RedisAddress("cache", 6379, 0, False, {})
    assert parse_address("redis://:secret@[::1]:1/").arguments == {
        "host": "::1",
        "port": 1,
        "db": 0,
        "password": "secret",
    }


def test_shown_it_has_no_credentials() -> None:
    address = parse_address("redis://ann:hidden@cache:7000/3")
    assert str(address) == "redis://cache:7000/3"
    assert "hidden" not in repr(address)
    assert "ann" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://:hidden@cache",
        "redis://",
        "redis://:hidden@cache:port",
        "redis://:hidden@cache/one",
        "redis://:hidden@cache/0?socket_timeout=0",
        "redis://:hidden@cache/0?ssl_ca_certs=ca.pem",
        "rediss://:hidden@cache/0?ssl_cert_reqs=none",
        "redis://:hidden@cache#part",
    ],
)
def test_a_wrong_one_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_address(url)
    assert "--redis-url" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_the_setting_is_refused_in_the_same_way() -> None:
    with pytest.raises(ConfigurationError, match="--redis-url: it is not redis") as caught:
        resolve_settings({"base_model": "demo", "redis_url": "http://:hidden@cache"})
    assert "hidden" not in str(caught.value)
    settings = resolve_settings({"base_model": "demo", "redis_url": "redis://:hidden@cache"})
    assert "hidden" not in repr(settings)
