"""What is printed: hostile text is shown as it would be written, and colours are only the console's own."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from rich.text import Text
from weighbridge.bench.cli import console as ours
from weighbridge.bench.cli.console import ConsoleReporter, plain, standard_error, standard_output


@given(text=st.text())
def test_plain_text_holds_nothing_that_steers(text: str) -> None:
    """No control but a new line is left, no half of a pair, no mark of direction; a text without any is left as it is."""
    shown = plain(text)
    assert not [letter for letter in shown if (ord(letter) < 32 and letter != "\n") or 127 <= ord(letter) < 160]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")
    shown.encode()
    assert plain(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\\new\nline", "a\\new\nline"),
        ("red \x1b[31m", "red \\x1b[31m"),
        ("\r\x07\t", "\\r\\x07\\t"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("f\u00fcr \u0627\u0644 \U0001f600", "f\u00fcr \u0627\u0644 \U0001f600"),
    ],
)
def test_what_steers_is_written_out(text: str, shown: str) -> None:
    """Escapes, bells, returns and marks of direction are shown by their codes; letters of every script stay letters."""
    assert plain(text) == shown


def test_tables_titles_and_sentences_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a cell, a title nor a sentence steers the terminal, on either console; markup and emoji codes stay text."""
    for console in (standard_output(), standard_error()):
        table = Table(title="title \x1b[31m [red]")
        table.add_column("column")
        table.add_row("cell \x1b[31m [/nothing] :smile:")
        console.print(table)
        console.print("sentence \x1b[31m [/]")
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert "\x1b" not in text
        assert all(word in text for word in ("title \\x1b[31m [red]", "[/nothing] :smile:", "sentence \\x1b[31m [/]"))


def test_the_console_s_own_colours_stay() -> None:
    """On a terminal, styles of ours are still written as escapes, while those within a text are not."""
    stream = io.StringIO()
    console = ours._careful(Console(file=stream, force_terminal=True, color_system="standard"))
    console.print(Text("bold \x1b[32m", style="bold"))
    assert stream.getvalue() == "\x1b[1mbold \\x1b[32m\x1b[0m\n"


def test_a_bar_shows_plain_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a stage of a hostile name, and the words of its progress, are drawn without their escapes."""
    stream = io.StringIO()
    monkeypatch.setattr(
        ours, "standard_error", lambda: ours._careful(Console(file=stream, force_terminal=True, width=200))
    )
    with ConsoleReporter().stage("weighing \x1b[35m") as progress:
        progress(0.5, "half \x1b[35m")
    assert "weighing \\x1b[35m" in stream.getvalue()
    assert "half \\x1b[35m" in stream.getvalue()
    assert "weighing \x1b[35m" not in stream.getvalue()
