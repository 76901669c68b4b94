"""Many requests, few workers: turns, limits, and clients that do not wait."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from service.errors import InvalidRequest, Overloaded
from service.templates.limits import RenderLimits, limits_for
from service.templates.renderer import TemplateRenderer

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
LIMITS = RenderLimits(seconds=1.0, max_waiting=3)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


def test_a_refusal_is_the_clients_error() -> None:
    async def scene() -> None:
        renderer = TemplateRenderer(LIMITS)
        assert await renderer.render("red", "a", "Hi {{ x }}", {"x": 1}) == "Hi 1"
        with pytest.raises(InvalidRequest) as caught:
            await renderer.render("red", "a", "{{ raise_exception('no') }}", {})
        assert str(caught.value) == "The adapter's chat template refuses: no."
        assert caught.value.param == "messages"
        await renderer.close()

    run(scene())


def test_an_endless_template_leaves_a_worker_to_the_others() -> None:
    async def scene() -> None:
        renderer = TemplateRenderer(LIMITS)
        endless = [
            asyncio.create_task(renderer.render("red", "bad", ENDLESS, {})) for _ in range(3)
        ]
        await asyncio.sleep(0.1)
        for number in range(20):
            assert await renderer.render("red", "good", "{{ n }}", {"n": number}) == str(number)
        assert not any(task.done() for task in endless[1:])
        for task in endless:
            with pytest.raises(InvalidRequest, match="more time or memory"):
                await task
        assert not renderer._turns
        await renderer.close()

    run(scene())


def test_slow_templates_of_one_owner_leave_a_worker_to_the_others() -> None:
    async def scene() -> None:
        renderer = TemplateRenderer(LIMITS)
        slow = [asyncio.create_task(renderer.render("red", f"bad{n}", ENDLESS, {})) for n in "123"]
        await asyncio.sleep(0.1)
        assert await renderer.render("blue", "bad1", "ok", {}) == "ok"
        assert not any(task.done() for task in slow)
        slow[0].cancel()
        slow[2].cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        assert await renderer.render("red", "bad3", "ok", {}) == "ok"
        assert not renderer._turns
        await renderer.close()

    run(scene())


def test_a_queue_for_one_template_is_bounded() -> None:
    async def scene() -> None:
        renderer = TemplateRenderer(LIMITS)
        waiting = [
            asyncio.create_task(renderer.render("red", "bad", ENDLESS, {})) for _ in range(4)
        ]
        await asyncio.sleep(0.1)
        with pytest.raises(Overloaded):
            await renderer.render("red", "bad", ENDLESS, {})
        assert await renderer.render("red", "good", "ok", {}) == "ok"
        for task in waiting[1:]:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert await renderer.render("red", "bad", "ok", {}) == "ok"
        await renderer.close()

    run(scene())


def test_who_leaves_does_not_give_the_turn_away() -> None:
    async def scene() -> None:
        renderer = TemplateRenderer(LIMITS)
        first = asyncio.create_task(renderer.render("red", "bad", ENDLESS, {}))
        await asyncio.sleep(0.3)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        started = time.monotonic()
        assert await renderer.render("red", "bad", "ok", {}) == "ok"
        assert time.monotonic() - started > 0.3
        assert not renderer._turns
        await renderer.close()

    run(scene())


def test_every_text_that_fits_the_context_may_be_rendered() -> None:
    assert limits_for(512).max_chars == 1 << 20
    assert limits_for(1 << 20).max_chars == 16 << 20
    assert replace(limits_for(1 << 20), max_chars=1 << 20) == RenderLimits()


def test_many_at_once_each_get_their_own() -> None:
    async def scene() -> None:
        renderer = TemplateRenderer(RenderLimits())
        jobs = [renderer.render("red", f"t{n % 5}", "{{ n }}", {"n": n}) for n in range(100)]
        assert await asyncio.gather(*jobs) == [str(n) for n in range(100)]
        await renderer.close()
        for worker in renderer._idle:
            assert worker._process is None

    run(scene())
