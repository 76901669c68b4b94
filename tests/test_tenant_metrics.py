"""Tenants that are turned away are counted by name, as many as allowed."""

from service.tenant_metrics import LimitedRequests


def counts(metrics: LimitedRequests) -> dict[str, float]:
    (family,) = metrics.collect()
    return {one.labels["tenant"]: one.value for one in family.samples}


def test_the_first_tenants_are_counted_by_name_and_the_rest_together() -> None:
    metrics = LimitedRequests(max_tenants=2)
    for tenant in ("red", "blue", "green", "red", "white", "blue", "green"):
        metrics.count(tenant)
    assert counts(metrics) == {"red": 2, "blue": 2, "_other": 3}
