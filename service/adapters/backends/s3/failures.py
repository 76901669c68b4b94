"""What boto3's errors mean."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from service.errors import ConfigurationError, StoreFull, StoreUnavailable
from service.store_location import BucketLocation

AWAY = "The adapter store cannot be reached now; ask again soon."

_FULL = frozenset(
    {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
)


class Damaged(Exception):
    """An object is not what was written, however often it is read."""


def is_nothing(_: ClientError) -> bool:
    return False


def is_absent(error: ClientError) -> bool:
    """The object, not its bucket."""
    return _code(error) in ("NoSuchKey", "404", "NotFound")


def is_taken(error: ClientError) -> bool:
    return _code(error) in ("PreconditionFailed", "412")


def is_conflict(error: ClientError) -> bool:
    """Somebody else is at the same key; it may be tried again."""
    return _code(error) in ("ConditionalRequestConflict", "409")


def is_full(error: ClientError) -> bool:
    return _code(error) in _FULL or _status(error) == 507


@contextmanager
def told_at_start(location: BucketLocation) -> Iterator[None]:
    """When nobody has ever reached the store, whoever starts it has something to put right."""
    try:
        yield
    except (StoreUnavailable, StoreFull) as error:
        cause = error.__cause__
        reason = "it is full" if cause is None else reason_of(cause)
        raise ConfigurationError(f"The adapter store {location}: {reason}.") from error


def reason_of(error: BaseException) -> str:
    """For whoever operates the service; without a URL, a path or who asked."""
    match error:
        case ClientError():
            return f"it says {_code(error) or _status(error)}"
        case NoCredentialsError():
            return "there are no credentials for it"
        case BotoCoreError() | ConnectionError():
            return f"it does not answer ({type(error).__name__})"
    return type(error).__name__


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
