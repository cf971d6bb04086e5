"""What is said at an interrupt: how to go on, where there is something to go on with."""

from pathlib import Path

import pytest
from weighbridge.bench.cli.interrupts import Terminated, going_on_with


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
@pytest.mark.parametrize(
    ("left", "said"),
    [
        ("journal.jsonl", "interrupted; `weighbridge run --resume {}` goes on from here\n"),
        ("search/search.json", "interrupted; `weighbridge run --resume {}` goes on from here\n"),
        ("notes.txt", "interrupted before anything was finished; start it again\n"),
    ],
)
def test_an_interrupt_says_how_to_go_on(
    kind: type[BaseException], left: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A journal or a search's folder can be gone on with, by a line that can be copied whole; anything else cannot."""
    path = tmp_path / ("a-long-name" * 8) / left
    path.parent.mkdir(parents=True)
    path.write_text("{}", encoding="utf-8")
    folder = tmp_path / ("a-long-name" * 8)
    with pytest.raises(kind), going_on_with("weighbridge run", folder):
        raise kind
    assert capsys.readouterr().err == said.format(folder)


def test_whatever_else_ends_a_run_is_left_to_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error passes through without a word about going on."""
    with pytest.raises(ValueError, match="other"), going_on_with("weighbridge run", tmp_path):
        raise ValueError("other")
    assert capsys.readouterr().err == ""
