"""The calls about the server itself."""

from service.client.call import Call, Listing
from service.client.results.base import Page
from service.client.results.operations import ModelCard, Readiness, Version


def version() -> Call[Version]:
    """What runs there."""
    return Call("GET", "/version", Version)


def ready() -> Call[Readiness]:
    """Whether it takes requests; a server that starts or drains says so and is no error."""
    return Call("GET", "/ready", Readiness, answers=frozenset({503}))


def models() -> Listing[ModelCard]:
    """The base and every adapter, as OpenAI's clients see them."""
    return Listing(Call("GET", "/v1/models", Page[ModelCard]), lambda card: card.id)
