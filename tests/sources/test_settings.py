"""What an operator allows: lists with commas, and secrets that no sentence shows."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.errors import ConfigurationError, SourceRefused
from service.settings import resolve_settings
from service.sources.catalog import SourceCatalog
from service.sources.web_reader import WebReader


def settings(**given: object) -> Any:
    return resolve_settings({"base_model": "x", **given})


def test_lists_are_written_with_commas() -> None:
    found = settings(
        source_hosts="Files.test, *.cdn.test:8443,[::1]:443",
        source_hub_repos="org,other/repo,*",
        source_buckets="models,other/prefix",
        source_networks="10.0.0.0/8, ::1/128",
        source_root="relative",
    )
    assert found.source_hosts == ("files.test", "*.cdn.test:8443", "[::1]:443")
    assert found.source_hub_repos == ("org", "other/repo", "*")
    assert found.source_buckets == ("models", "other/prefix")
    assert found.source_networks == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert found.source_root == Path("relative").absolute()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source_hosts", "https://files.test"),
        ("source_hosts", "*"),
        ("source_hosts", "files.test/path"),
        ("source_tokens", "hunter2"),
        ("source_tokens", "files.test=hunter2 x"),
        ("source_hub_repos", "a/b/c"),
        ("source_hub_endpoint", "http://hub.test"),
        ("source_buckets", "s3://bucket"),
        ("source_networks", "10.0.0.1/8"),
        ("source_networks", "everything"),
    ],
)
def test_a_wrong_one_stops_the_start(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--{name.replace('_', '-')}: ") as caught:
        settings(**{name: value})
    assert "hunter2" not in str(caught.value)


def test_secrets_are_not_written_down() -> None:
    found = settings(source_tokens="files.test=hunter2", source_hub_token="hunter2")
    assert "hunter2" not in repr(found)
    assert "hunter2" not in str(found.model_dump())


def test_a_hub_without_tls_is_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.test")
    SourceCatalog(settings(), WebReader())
    with pytest.raises(ConfigurationError, match="--source-hub-endpoint"):
        SourceCatalog(settings(source_hub_repos="*"), WebReader())


@pytest.mark.parametrize(
    ("source", "flag"),
    [
        ("https://files.test/a", "--source-hosts"),
        ("hf://org/repo", "--source-hub-repos"),
        ("s3://bucket/a", "--source-buckets"),
        ("/srv/a", "--source-root"),
    ],
)
def test_nothing_is_allowed_by_default(source: str, flag: str) -> None:
    with pytest.raises(SourceRefused, match=flag):
        SourceCatalog(settings(), WebReader()).find(source)


def test_a_token_is_for_its_host_and_port() -> None:
    given = {"source_hosts": "files.test,files.test:8443", "source_tokens": "files.test=a"}
    catalog = SourceCatalog(settings(**given), WebReader())
    own: Any = catalog.find("https://files.test/a")
    other: Any = catalog.find("https://files.test:8443/a")
    assert own._link.secrets == {"Authorization": "Bearer a"}
    assert other._link.secrets == {}
    assert "Bearer" not in repr(own._link)
    assert own._link.url == httpx.URL("https://files.test/a")
