"""Whether an environment that a deployment sets is one that the server starts with."""

import re
from collections.abc import Mapping

import pytest

from service.settings import ENV_PREFIX, Settings, unknown_variables
from tests.server import ROOT


def image_environment() -> dict[str, str]:
    """What the Dockerfile sets."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("ENV ")]
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(lines)))


def settings_of(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """In a container of the image, beside what the image itself sets."""
    whole = image_environment() | environment
    assert unknown_variables(whole) == []
    with monkeypatch.context() as patch:
        for name in ("PORT", *(ENV_PREFIX + one.upper() for one in Settings.model_fields)):
            patch.delenv(name, raising=False)
        for name, value in whole.items():
            if name.startswith(ENV_PREFIX):
                patch.setenv(name, value)
        return Settings()  # type: ignore[call-arg]
