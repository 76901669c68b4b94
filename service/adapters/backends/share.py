"""What a replica may grant while it cannot ask the others. Pure."""

from dataclasses import replace

from service.tenancy import TenantLimits


def local_share(limits: TenantLimits, num_replicas: int) -> TenantLimits:
    """An equal part of what is counted per minute and at once, at least 1 of each: so all together
    stay within the limits as long as there are no more replicas than that."""

    def part(limit: int | None) -> int | None:
        return None if limit is None else max(1, limit // num_replicas)

    return replace(
        limits,
        requests_per_minute=part(limits.requests_per_minute),
        tokens_per_minute=part(limits.tokens_per_minute),
        max_concurrent_requests=part(limits.max_concurrent_requests),
    )
