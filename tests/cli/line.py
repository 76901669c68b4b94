"""Command lines, run in this process."""

import pytest

from service.__main__ import main


class Line:
    """Runs them against one server."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self._capsys = capsys

    def __call__(self, *words: object, status: int = 0) -> str:
        """What goes to stdout, or for another status than 0 to stderr; nothing else is said."""
        self._capsys.readouterr()
        found = main([*map(str, words), "--url", self.url])
        out, err = self._capsys.readouterr()
        assert found == status, out + err
        assert (err if status == 0 else out) == ""
        return out if status == 0 else err
