"""Which modules a config targets, decided exactly as peft decides it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ALL_LINEAR = "all-linear"
_LINEAR_CLASSES = frozenset(
    {"Linear", "NonDynamicallyQuantizableLinear", "Conv1D", "Linear4bit", "Linear8bitLt"}
)
_FIRST_NUMBER = re.compile(r".*?\.[^.]*\.(?P<idx>\d+)\.")


@dataclass(frozen=True, slots=True)
class TargetRule:
    """The fields of a config that choose modules. A string is a regular expression."""

    include: str | frozenset[str]
    exclude: str | frozenset[str] = frozenset()
    layers: tuple[int, ...] | None = None
    """None = every layer."""
    layers_pattern: tuple[str, ...] = ()

    def resolve(
        self, modules: Iterable[tuple[str, str]], output_module: str | None
    ) -> tuple[str, ...]:
        """Paths of the targeted modules, in the order of the base. Raises re.error."""
        modules = tuple(modules)
        rule = self
        if isinstance(self.include, str) and self.include.lower() == ALL_LINEAR:
            linear = frozenset(
                path for path, kind in modules if kind in _LINEAR_CLASSES and path != output_module
            )
            rule = TargetRule(linear, self.exclude, self.layers, self.layers_pattern)
        return tuple(path for path, _ in modules if path and rule._is_target(path))

    def _is_target(self, path: str) -> bool:
        if self.exclude and _matches(self.exclude, path):
            return False
        if isinstance(self.include, str):
            return re.fullmatch(self.include, path) is not None
        # A full path bypasses the choice of layers; peft does the same.
        if path in self.include:
            return True
        return _matches(self.include, path) and self._is_in_layers(path)

    def _is_in_layers(self, path: str) -> bool:
        if self.layers is None:
            return True
        match = self._layer_match(path)
        return match is not None and int(match["idx"]) in self.layers

    def _layer_match(self, path: str) -> re.Match[str] | None:
        if not self.layers_pattern:
            return _FIRST_NUMBER.match(path)
        matches = (
            re.match(rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.", path)
            for pattern in self.layers_pattern
        )
        return next((match for match in matches if match), None)


def pattern_key(keys: Sequence[str], path: str) -> str | None:
    """The first key of `rank_pattern` or `alpha_pattern` that applies to a module."""
    return next((key for key in keys if re.match(rf"(.*\.)?({key})$", path)), None)


def _matches(rule: str | frozenset[str], path: str) -> bool:
    """A list matches by whole path parts from the right."""
    if isinstance(rule, str):
        return re.fullmatch(rule, path) is not None
    return path in rule or any(
        path[index + 1 :] in rule for index, letter in enumerate(path) if letter == "."
    )
