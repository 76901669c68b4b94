"""A tenant keeps no more adapters and bytes than it may, whoever else has the same content."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from service.errors import QuotaExceeded
from service.tenancy import TenantLimits
from tests.adapters.house import House, run as run_house

Lora = Callable[[int], Path]


def run(house: House, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_house(house, scenario)
    assert list(house.store.temporary.iterdir()) == []


def test_one_adapter_too_many_is_refused_but_not_another_version(house: House, lora: Lora) -> None:
    house.tenant_limits = TenantLimits(max_adapters=1)

    async def scenario() -> None:
        await house.publish("red/a", lora(1))
        with pytest.raises(QuotaExceeded, match=r"1 adapters.*max_adapters"):
            await house.publish("red/b", lora(1))
        await house.publish("red/a", lora(2))
        await house.publish("blue/b", lora(1))
        await house.service.delete("red/a")
        await house.publish("red/b", lora(1))

    run(house, scenario)


def test_bytes_count_for_each_tenant_also_those_that_another_has(house: House, lora: Lora) -> None:
    async def scenario() -> None:
        one = (await house.publish("blue/a", lora(1))).version.num_bytes
        await house.publish("red/a", lora(2))
        house.tenant_limits = TenantLimits(max_adapter_bytes=one + one // 2)
        with pytest.raises(QuotaExceeded, match="max_adapter_bytes"):
            await house.publish("red/b", lora(1))
        await house.publish("red/b", lora(2))
        with pytest.raises(QuotaExceeded):
            house.service.quotas.check_announced("red", one)
        house.service.quotas.check_announced("red", one // 4)
        assert house.store.names() == ["blue/a", "red/a", "red/b"]

    run(house, scenario)


def test_what_is_deleted_takes_room_until_it_is_given_up(house: House, lora: Lora) -> None:
    house.deleted_retention_s = 3600.0
    house.__post_init__()

    async def scenario() -> None:
        one = (await house.publish("red/a", lora(1))).version.num_bytes
        house.tenant_limits = TenantLimits(max_adapters=1, max_adapter_bytes=one)
        await house.service.delete("red/a")
        with pytest.raises(QuotaExceeded, match=f"{one} of them deleted"):
            await house.publish("red/b", lora(2))
        await house.publish("red/b", lora(1))
        with pytest.raises(QuotaExceeded, match="max_adapters"):
            await house.service.deletions.restore("red/a")
        await house.service.delete("red/b")
        await house.service.deletions.restore("red/a")

    run(house, scenario)


def test_uploads_that_race_for_the_last_place_do_not_both_get_it(house: House, lora: Lora) -> None:
    house.tenant_limits = TenantLimits(max_adapters=1)

    async def scenario() -> None:
        results = await asyncio.gather(
            *(house.publish(f"red/{name}", lora(1)) for name in "ab"), return_exceptions=True
        )
        assert sorted(isinstance(one, QuotaExceeded) for one in results) == [False, True]
        assert house.store.num_adapters("red") == 1

    run(house, scenario)
