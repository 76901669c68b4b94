"""What the server says about itself."""

from service.client.results.base import Result


class ModelCard(Result):
    id: str
    created: int
    parent: str | None
    version: int | None = None
    """None for the base."""
    digest: str | None = None


class Version(Result):
    version: str
    model: str
    architecture: str
    dtype: str
    device: str
    max_model_len: int


class Readiness(Result):
    status: str
    reasons: tuple[str, ...] = ()
    """Why it is `degraded`: it takes requests, but something does not work for now."""

    @property
    def is_ready(self) -> bool:
        return self.status in ("ready", "degraded")
