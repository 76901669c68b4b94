"""What a query of a dashboard uses: read by a real PromQL parser, and compared with a server's."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

TARGET_LABELS = frozenset({"instance", "job"})
"""Prometheus adds them to everything that it scrapes."""

Exposed = Mapping[str, frozenset[str]]
"""The labels of every sample, by its name."""

_VARIABLES = {"$__rate_interval": "5m"}


@dataclass(frozen=True)
class Selector:
    metric: str
    labels: frozenset[str]
    """It is selected by."""
    kept: frozenset[str]
    """Some aggregation, join or legend around it needs them."""


def problems(query: str, legend: str, exposed: Exposed) -> list[str]:
    """What in the query no server exposes; empty if it is right."""
    found: list[str] = []
    for selector in selectors(query, legend):
        known = exposed.get(selector.metric)
        if known is None:
            found.append(f"no metric {selector.metric}")
            continue
        unknown = (selector.labels | selector.kept) - known - TARGET_LABELS
        found += [f"{selector.metric} has no label {one}" for one in sorted(unknown)]
    return found


def selectors(query: str, legend: str = "") -> list[Selector]:
    """Raises `ValueError` for what is no PromQL."""
    for name, value in _VARIABLES.items():
        query = query.replace(name, value)
    kept = frozenset(re.findall(r"\{\{\s*(\w+)\s*\}\}", legend))
    return list(_walk(promql.parse(query), kept))


def _walk(node: Any, kept: frozenset[str]) -> Iterator[Selector]:
    match node:
        case promql.VectorSelector():
            matchers = node.matchers.matchers
            yield Selector(node.name, frozenset(one.name for one in matchers), kept)
        case promql.MatrixSelector():
            yield from _walk(node.vector_selector, kept)
        case promql.AggregateExpr():
            yield from _walk(node.expr, _through(node, kept))
        case promql.BinaryExpr():
            joined = frozenset(node.modifier.matching.labels if _is_on(node) else ())
            yield from _walk(node.lhs, kept | joined)
            yield from _walk(node.rhs, kept | joined)
        case promql.Call():
            needs = {"le"} if node.func.name == "histogram_quantile" else set()
            for argument in node.args:
                yield from _walk(argument, kept | needs)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from _walk(node.expr, kept)
        case promql.NumberLiteral() | promql.StringLiteral():
            pass
        case _:
            raise AssertionError(f"{type(node).__name__} is not looked into")


def _through(node: Any, kept: frozenset[str]) -> frozenset[str]:
    """What is asked for outside must survive the aggregation, and what it groups by must exist."""
    if str(node.op) in ("topk", "bottomk"):
        return kept
    by = frozenset(node.modifier.labels if node.modifier is not None else ())
    lost = kept - by
    assert not lost, f"{node} does not keep {', '.join(sorted(lost))}"
    return by


def _is_on(node: Any) -> bool:
    return node.modifier is not None and node.modifier.matching is not None
