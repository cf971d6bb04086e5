"""What is told of the machine: an allow-list, with advice where something would disturb a measurement."""

import subprocess
from pathlib import Path

import psutil
import pytest
from weighbridge.bench import environment


def test_only_named_facts_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No value of an environment variable gets into the description, whatever its name."""
    monkeypatch.setenv("SECRET_TOKEN", "hunter2-hunter2")
    facts = environment.describe(tmp_path)
    assert "hunter2" not in str(facts)
    assert {"date", "commit", "cpu", "cores", "memory_bytes", "versions"} <= set(facts)
    assert facts["versions"]["numpy"]


def test_the_commit_is_that_of_the_checkout_and_marks_changes(tmp_path: Path) -> None:
    """Outside git the commit is empty; inside it is HEAD, with a plus where a tracked file differs."""
    assert environment.commit(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.invalid"]
    (tmp_path / "file").write_text("one", encoding="utf-8")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
    assert environment.commit(tmp_path) == head.stdout.strip()
    (tmp_path / "file").write_text("two", encoding="utf-8")
    assert environment.commit(tmp_path) == head.stdout.strip() + "+"


def test_load_gives_advice_and_quiet_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine is told with its load and what to do; a quiet one gets no sentence about load."""
    monkeypatch.setattr(psutil, "cpu_percent", lambda **_: 60.0)
    assert "Other work takes 60 % of this machine's processors: stop it or wait." in environment.advice()
    monkeypatch.setattr(psutil, "cpu_percent", lambda **_: 2.0)
    assert not any("Other work" in sentence for sentence in environment.advice())


def test_available_memory_is_at_most_the_machines() -> None:
    """What new processes can take is above nothing and at most the machine's memory."""
    assert 0 < environment.available_bytes() <= psutil.virtual_memory().total
