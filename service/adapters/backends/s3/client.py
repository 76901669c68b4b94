"""Clients of boto3 that are bounded in time. Who acts comes from where AWS's own tools find it: the
environment, files, the role of the machine; nothing of it passes through here."""

import logging
import os
from dataclasses import dataclass
from typing import Any, Literal

from service.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class S3Endpoint:
    url: str | None = None
    """None: AWS's own, or what its variables say."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    profile: str | None = None
    """Of those in AWS's files; None: whoever acts by default."""


@dataclass(frozen=True, slots=True)
class S3Pace:
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 15.0
    """Without a byte."""
    num_attempts: int = 3
    """Of each call, the first included; a pause of at most some seconds lies between two."""


MAX_CONNECTIONS = 32
"""Of one client; more callers wait for one of them."""


def s3_client(endpoint: S3Endpoint, pace: S3Pace | None = None) -> Any:
    """Thread-safe, and knows no bucket yet. Its calls raise what boto3's raise.

    Raises `ConfigurationError` where boto3 is missing or its own settings are wrong.
    """
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        message = "s3:// needs boto3, which is missing; pip install 'repertoire[s3]'"
        raise ConfigurationError(message) from error
    pace = pace or S3Pace()
    _keep_requests_out_of_logs()
    config = Config(
        connect_timeout=pace.connect_timeout_s,
        read_timeout=pace.read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": pace.num_attempts},
        max_pool_connections=MAX_CONNECTIONS,
        tcp_keepalive=True,
        # The signature covers the body. Checksums in trailers say no more, and many servers that
        # speak S3 do not know them.
        s3={"addressing_style": endpoint.addressing, "payload_signing_enabled": True},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        session = boto3.session.Session(profile_name=endpoint.profile)
        # boto3 alone, of all of AWS's libraries, does not look at AWS_REGION.
        region = session.region_name or os.environ.get("AWS_REGION")
        return session.client("s3", region_name=region, endpoint_url=endpoint.url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"The client of S3 cannot be made: {error}") from error


def _keep_requests_out_of_logs() -> None:
    """At the level `debug` they would be written with their signatures and session tokens."""
    for name in ("boto3", "botocore", "urllib3"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.getEffectiveLevel(), logging.INFO))
