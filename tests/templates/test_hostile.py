"""Templates that want more than their share get nothing, and the next one gets a whole worker."""

import io
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.templates.frames import read_frame
from service.templates.limits import RenderLimits
from service.templates.worker import TemplateFailed, TemplateWorker

LIMITS = RenderLimits(seconds=2.0, cpu_seconds=1, memory_bytes=96 << 20, max_chars=1 << 20)
TOO_MUCH = "takes more time or memory than a template may"

FOREVER = (
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro m() %}{% for i in range(99999) %}{{ m() if i < 0 }}{% endfor %}{% endmacro %}"
    "{% for i in range(99999) %}{{ m() }}{% endfor %}",
    "{{ (7 ** 999999) ** 999 }}",
)
BOMBS = (
    "{{ 'a' * 10 ** 12 }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}"
    "{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}"
    "{% endfor %}",
    "{{ '%999999999999d' % 1 }}",
    "{{ [messages] * 10 ** 12 }}",
    "{{ 'x' | center(10 ** 9) }}",
    "{{ 'x'.ljust(10 ** 9) }}",
    "{{ '{:>1000000000}'.format('x') }}",
    "{{ ('a\n' * 100000) | indent(1000) }}",
    "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "{{ raise_exception('x' * 50000000) }}",
    "{% if 'a' * 10 ** 11 %}{% endif %}",
    "{{ range(10 ** 9) | list }}",
    "{{ 10 ** 5000 }}",
)


@pytest.fixture
def worker() -> Iterator[TemplateWorker]:
    worker = TemplateWorker(LIMITS)
    yield worker
    worker.close()


def failure(worker: TemplateWorker, template: str) -> str:
    with pytest.raises(TemplateFailed) as caught:
        worker.render(template, {"messages": [{"content": "x" * 100}]})
    return str(caught.value)


def works(worker: TemplateWorker) -> bool:
    return worker.render("{{ 1 + 1 }}", {}) == "2"


@pytest.mark.parametrize("template", FOREVER)
def test_an_endless_template_is_ended(worker: TemplateWorker, template: str) -> None:
    assert works(worker)
    started = time.monotonic()
    assert failure(worker, template) == TOO_MUCH
    assert time.monotonic() - started < 20
    assert works(worker)


@pytest.mark.parametrize("template", BOMBS)
def test_a_memory_bomb_takes_only_its_worker(worker: TemplateWorker, template: str) -> None:
    assert works(worker)
    message = failure(worker, template)
    assert message == TOO_MUCH or message.startswith(("refuses: ", "renders more")), message
    assert works(worker)


def test_a_gigantic_output_is_cut_off(worker: TemplateWorker) -> None:
    loop = "{% for i in range(9999) %}"
    endless = loop + loop + "aaaaaaaaaa{% endfor %}{% endfor %}"
    assert failure(worker, endless) == f"renders more than {1 << 20} characters"
    assert failure(worker, "{{ 'a' * 2 ** 21 }}") == f"renders more than {1 << 20} characters"
    assert worker.render("{{ 'a' * 2 ** 20 }}", {}) == "a" * 2**20


@pytest.mark.parametrize(
    "template",
    [
        "''.__class__",
        "messages.__class__",
        "messages[0].__class__",
        "raise_exception.__globals__",
        "strftime_now.__code__",
        "cycler.__init__",
        "namespace.__init__",
        "self.__init__",
        "joiner.__mro__",
        "messages | attr('__class__')",
        "'{0.__class__}'.format(1)",
        "'{a.__class__}'.format_map({'a': 1})",
    ],
)
def test_internals_are_out_of_reach(worker: TemplateWorker, template: str) -> None:
    """Jinja calls them undefined: what is asked of them fails, and as text they are empty."""
    message = failure(worker, f"{{{{ ({template}).__subclasses__() }}}}")
    assert message.startswith("refuses: ")
    assert "unsafe" in message or "undefined" in message or "no attribute" in message
    shown = f"{{% set x = {template} %}}{{{{ x if x is undefined else raise_exception('!') }}}}"
    if "format" not in template:
        assert worker.render(shown, {"messages": [{}]}) == ""


@pytest.mark.parametrize("name", ["include", "import", "extends"])
def test_no_file_is_in_reach(worker: TemplateWorker, name: str) -> None:
    ending = " as x" if name == "import" else ""
    message = failure(worker, f"{{% {name} '/etc/passwd'{ending} %}}")
    assert message == "refuses: no loader for this environment specified"


@pytest.mark.parametrize(
    "answer",
    [b"[" * 100_000, b'{"text": ' * 50_000, b"\xff" * 8, b"[]", b'{"text"'],
    ids=["deep", "deep-object", "no-text", "no-object", "cut"],
)
def test_an_answer_that_is_none_is_never_an_error_of_the_server(answer: bytes) -> None:
    """A worker that was taken over says what it likes."""
    assert read_frame(io.BytesIO(struct.pack("<I", len(answer)) + answer)) is None


def test_an_answer_is_not_longer_than_a_text_may_be() -> None:
    pipe = io.BytesIO(struct.pack("<I", 1001) + b" " * 1001)
    assert read_frame(pipe, max_bytes=1000) is None
    assert pipe.tell() == 4, "nothing of it was read"


def test_what_a_template_raises_is_told(worker: TemplateWorker) -> None:
    assert failure(worker, "{{ raise_exception('Only Ü please\nreally') }}") == (
        "refuses: Only Ü please"
    )
    assert failure(worker, "{{ raise_exception('x' * 9999) }}") == "refuses: " + "x" * 500
    assert failure(worker, "{{ raise_exception('\ud800') }}") == "refuses: ?"
    assert failure(worker, "{{ raise_exception() }}").startswith("refuses: ")
    assert failure(worker, "{{ 1 / 0 }}") == "refuses: division by zero"
    assert failure(worker, "{% if %}").startswith("refuses: Expected an expression")


def test_deep_nesting_is_an_answer(worker: TemplateWorker) -> None:
    deep = "{% if true %}" * 5000 + "{% endif %}" * 5000
    assert failure(worker, deep)
    assert failure(worker, "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}")
    assert failure(worker, "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}")
    assert works(worker)


def test_leftovers_of_others_do_not_fail_a_template(worker: TemplateWorker) -> None:
    """Compiled templates stay; together they may leave too little for the next one."""
    first = None
    for number in range(16):
        worker.render(f"{number}{{# {'x' * (1 << 21)} #}}{{{{ '{'y' * (1 << 20)}'[:1] }}}}", {})
        first = first or worker._process
    assert worker._process is first
    assert worker.render("{{ ('a' * 2 ** 25) | length }}", {}) == str(2**25)
    assert worker._process is not first


def test_a_worker_that_died_meanwhile_is_replaced(worker: TemplateWorker) -> None:
    assert works(worker)
    assert worker._process is not None
    os.kill(worker._process.pid, 9)
    assert works(worker)


def test_a_worker_sees_no_secret_and_writes_nothing(
    worker: TemplateWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPERTOIRE_API_KEY", "secret")
    assert works(worker)
    assert worker._process is not None
    process = Path(f"/proc/{worker._process.pid}")
    assert b"secret" not in (process / "environ").read_bytes()
    limits = (process / "limits").read_text()
    assert f"Max data size             {96 << 20}" in limits
    assert "Max file size             0  " in limits


def test_a_worker_ends_with_its_parent(worker: TemplateWorker) -> None:
    assert works(worker)
    process = worker._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=10) == 0
