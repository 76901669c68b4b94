"""Every error the service raises on purpose. `api/exceptions.py` maps them to status codes.

RepertoireError
├── InvalidRequest            a field of the request is wrong; carries `param`
│   ├── PromptTooLong         prompt plus max_tokens exceeds the context
│   └── NeverWithinLimit      more tokens than the tenant may use in a whole minute
├── ModelNotFound             neither the base nor an adapter that may be used; carries `param`
├── AdapterNotFound           a management call names an adapter that does not exist
├── KeyNotFound               there is no such key, or it is another tenant's
├── TenantNotFound            an operator names a tenant that does not exist
├── ImportNotFound            there is no such import, it is another tenant's, or it was long ago
├── ImportNotStoppable        it is being compiled, and that goes on to its end
├── ImportInterrupted         the server ended before the import did
├── SourceRefused             the operator does not allow the source, or where it leads
├── SourceFailed              what a source is asked for cannot be had from it
│   ├── SourceNotFound        it has no such thing
│   ├── SourceDenied          it wants other credentials
│   └── SourceTimeout         it took too long
├── NameConflict              the name is taken by something that cannot be replaced
│   └── VersionInUse          pointers lead to the version; carries `pointers`
├── UnknownTarget             a pointer is to move to, or is, what does not exist; carries `param`
├── PreconditionFailed        what the caller has seen of an adapter is no longer so
├── PinLimitExceeded          pinned adapters would take more host memory than they may
├── AdapterRefused            the upload cannot be served exactly; carries the list of reasons
├── UploadTooLarge            more bytes, files or unpacked bytes than allowed
├── UrlTooLong                more bytes before the headers than allowed
├── HeadersTooLarge           more headers, or more bytes of them, than allowed
├── RequestTooSlow            a request did not arrive in time
├── UnsupportedUpload         not a form that can be read at all (content type, missing parts)
├── Unauthorized              no key, or a wrong one
├── PermissionDenied          the key is known, but does not allow this
├── RateLimited               the tenant's limits of this minute are used up; says when to ask again
├── QuotaExceeded             more than the tenant may keep, and waiting does not help
├── TooManyUploads           as many of the tenant's are open as may be; carries `retry_after`
├── Overloaded                no room in a queue; carries `retry_after` seconds
├── Draining                  shutting down; carries `retry_after` seconds
├── StoreFull                 the store's budget would be exceeded
├── StoreUnavailable          nothing can be changed for now; carries `retry_after` seconds
├── ColdLoadTimeout           the adapter is not in memory in time; carries `retry_after` seconds
├── AdapterLoadFailed         the adapter's stored bytes cannot be brought into memory
├── ConfigurationError        the service cannot start with these settings
└── EngineFailed              the engine thread died; nothing can be served
"""

from dataclasses import dataclass

from service.tenancy import RateState, bare_name


class RepertoireError(Exception):
    """Base of the tree. `str(error)` is a sentence a client may see: no path, no stack."""


class InvalidRequest(RepertoireError):
    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class PromptTooLong(InvalidRequest):
    pass


class NeverWithinLimit(InvalidRequest):
    pass


class ModelNotFound(RepertoireError):
    def __init__(self, model: str, param: str = "model") -> None:
        super().__init__(f"The model {model!r} does not exist.")
        self.model = model
        self.param = param


class AdapterNotFound(RepertoireError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The adapter {bare_name(name)!r} does not exist.")
        self.name = name


class KeyNotFound(RepertoireError):
    def __init__(self, key_id: str) -> None:
        super().__init__(f"The key {key_id[:200]!r} does not exist.")


class TenantNotFound(RepertoireError):
    def __init__(self, tenant: str) -> None:
        super().__init__(f"The tenant {tenant[:200]!r} does not exist.")


class ImportNotFound(RepertoireError):
    def __init__(self, import_id: str) -> None:
        super().__init__(f"The import {import_id[:200]!r} does not exist, or is not known here.")


class ImportNotStoppable(RepertoireError):
    pass


class ImportInterrupted(RepertoireError):
    pass


class SourceRefused(RepertoireError):
    pass


class SourceFailed(RepertoireError):
    pass


class SourceNotFound(SourceFailed):
    pass


class SourceDenied(SourceFailed):
    pass


class SourceTimeout(SourceFailed):
    pass


class NameConflict(RepertoireError):
    pass


class VersionInUse(NameConflict):
    def __init__(self, version: str, pointers: tuple[str, ...]) -> None:
        super().__init__(
            f"{version!r} cannot be deleted while pointers lead to it: {', '.join(pointers)}."
        )
        self.pointers = pointers
        """As a PATCH names them: `current`, `aliases.<alias>`."""


class PinLimitExceeded(RepertoireError):
    pass


class UnknownTarget(RepertoireError):
    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class PreconditionFailed(RepertoireError):
    pass


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason why an upload cannot be served exactly."""

    code: str
    """Machine-readable: `unsupported_field`, `unknown_tensor`, `wrong_shape`, …"""
    subject: str
    """The config field, tensor or file the reason is about."""
    message: str
    """A sentence that says what to do."""


class AdapterRefused(RepertoireError):
    def __init__(self, refusals: tuple[Refusal, ...]) -> None:
        super().__init__("; ".join(refusal.message for refusal in refusals))
        self.refusals = refusals


class UploadTooLarge(RepertoireError):
    pass


class UrlTooLong(RepertoireError):
    pass


class HeadersTooLarge(RepertoireError):
    pass


class RequestTooSlow(RepertoireError):
    pass


class UnsupportedUpload(RepertoireError):
    pass


class Unauthorized(RepertoireError):
    pass


class PermissionDenied(RepertoireError):
    pass


class RateLimited(RepertoireError):
    def __init__(self, message: str, retry_after_ms: int, rates: RateState) -> None:
        """`rates` as they are after the refusal, which has taken nothing."""
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
        self.rates = rates

    @property
    def retry_after(self) -> int:
        return -(-self.retry_after_ms // 1000)


class QuotaExceeded(RepertoireError):
    pass


class TooManyUploads(RepertoireError):
    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(RepertoireError):
    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Draining(RepertoireError):
    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreFull(RepertoireError):
    pass


class StoreUnavailable(RepertoireError):
    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ColdLoadTimeout(RepertoireError):
    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AdapterLoadFailed(RepertoireError):
    pass


class ConfigurationError(RepertoireError):
    pass


class EngineFailed(RepertoireError):
    pass
