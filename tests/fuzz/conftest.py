import pytest

from service.telemetry import configure_logging


@pytest.fixture(autouse=True, scope="session")
def _logging() -> None:
    """What a thousand cases log would hide what the long form prints."""
    configure_logging("error", "json")
