"""The journal: one event a line, read back as it was written."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.journal import JOURNAL, Journal, read_journal
from weighbridge.optimize.errors import InputError


@given(names=st.lists(st.text() | st.just("\ud800"), min_size=1, max_size=3))
def test_whatever_text_is_written_comes_back(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Texts with any letters, ends of lines of every system and halves of pairs among them, are read as they were written."""
    folder = tmp_path_factory.mktemp("run")
    journal = Journal(folder)
    for name in names:
        journal.write("prepared", class_names=[name])
    assert [event["class_names"] for event in read_journal(folder)] == [[name] for name in names]


def test_a_label_with_another_end_of_line_does_not_break_the_journal(tmp_path: Path) -> None:
    """A line separator (U+2028) and a next line (U+0085), which JSON need not escape, end no line of the journal."""
    Journal(tmp_path).write("prepared", class_names=["a\u2028b\x85c"])
    Journal(tmp_path).write("built", variant="x")
    assert len(read_journal(tmp_path)) == 2


def test_a_last_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    """What a crash cut short is no event; an empty journal has none."""
    Journal(tmp_path).write("prepared")
    path = tmp_path / JOURNAL
    path.write_text(path.read_text(encoding="utf-8") + '{"event": "bui', encoding="utf-8")
    assert read_journal(tmp_path) == [{"event": "prepared"}]
    path.write_text("", encoding="utf-8")
    assert read_journal(tmp_path) == []


@pytest.mark.parametrize("line", ["{", "NaN", "[" * 100_000])
def test_a_line_in_between_that_is_no_json_is_told_with_its_number(line: str, tmp_path: Path) -> None:
    """Cut, out of JSON's bounds or nested too deeply: the line is named."""
    (tmp_path / JOURNAL).write_text(
        f"{json.dumps({'event': 'a'})}\n{line}\n{json.dumps({'event': 'b'})}\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match=r"journal\.jsonl: line 2 is not JSON"):
        read_journal(tmp_path)
