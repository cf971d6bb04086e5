"""Damaged files of every kind are taken or refused in a sentence: a few hundred cases here, thousands in the soak run."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from weighbridge.optimize.errors import InputError

LoadScript = Callable[[str], ModuleType]
QUICK = ("config", "rules", "tables", "arrays", "plans", "answers", "onnx", "artifact", "benchmarks")
"""Files whose sound forms are made in a moment."""


@pytest.fixture(scope="module")
def fuzz(load_script: LoadScript) -> ModuleType:
    return load_script("fuzz")


@pytest.mark.parametrize("target", QUICK)
def test_damaged_files_are_taken_or_refused_in_a_sentence(fuzz: ModuleType, target: str) -> None:
    """No case ends in an exception that is none of ours, an error without words, a hang, or the end of the process."""
    found = list(fuzz.watched(target, range(30), seed=7))
    assert [case for case in found if case.outcome == "finding"] == []
    assert sum(case.outcome == "refused" for case in found) >= 10


def test_damaged_run_folders_are_judged_and_rendered_or_refused(fuzz: ModuleType) -> None:
    """The same of a run folder, raw and derived files: judged again, then rendered in every format."""
    found = list(fuzz.watched("run", range(8), seed=7))
    assert [case for case in found if case.outcome == "finding"] == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thousands_of_damaged_files(fuzz: ModuleType) -> None:
    """Three thousand cases over every kind of file, checkpoints among them."""
    numbers = fuzz.shares(3000, list(fuzz.TARGETS))
    found = [case for target in numbers for case in fuzz.watched(target, numbers[target], seed=11)]
    assert len(found) >= 3000
    assert [case for case in found if case.outcome == "finding"] == []


def _refuse_without_words(folder: Path, path: Path) -> None:
    del folder, path
    raise InputError("no")


def _lose(folder: Path, path: Path) -> None:
    del folder
    raise KeyError(path.name)


@pytest.mark.parametrize(("take", "words"), [(_lose, "KeyError: 'file.json'"), (_refuse_without_words, "no")])
def test_what_is_no_sentence_is_a_finding(
    fuzz: ModuleType, take: Callable[[Path, Path], None], words: str, tmp_path: Path
) -> None:
    """A reader that raises an exception that is none of ours, or an error without words, is found."""
    (tmp_path / "file.json").write_text('{"a": 1}', encoding="utf-8")
    case = fuzz.one(fuzz.Target("planted", lambda _: None, take), 0, 0, tmp_path)
    assert (case.outcome, words in case.words) == ("finding", True)


CHILD = """
import json, os, sys, time
print("{{}}", flush=True)
for number in map(int, sys.argv[1:]):
    if number == 0:
        {fault}
    print(json.dumps(dict(target="planted", number=number, outcome="taken", words="")), flush=True)
"""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("os.kill(os.getpid(), 11)", "the process ended with -11"),
        ("sys.exit('lost')", "the process ended with 1: lost"),
        ("time.sleep(60)", "no answer within 2 s"),
    ],
)
def test_a_crash_or_hang_is_a_finding_and_the_next_case_is_tried(
    fuzz: ModuleType, fault: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that is killed, ends by itself or does not answer costs one case, and a new one goes on behind it."""

    def command_of(target: str, numbers: Sequence[int], seed: int) -> list[str]:
        del target, seed
        return [sys.executable, "-P", "-c", CHILD.format(fault=fault), *map(str, numbers)]

    monkeypatch.setattr(fuzz, "TIME_LIMIT_S", 2.0)
    monkeypatch.setattr(fuzz, "command_of", command_of)
    found = list(fuzz.watched("planted", range(2), seed=0))
    assert [(case.number, case.outcome) for case in found] == [(0, "finding"), (1, "taken")]
    assert words in found[0].words


def test_sound_files_that_are_refused_stop_the_fuzzing(fuzz: ModuleType, tmp_path: Path) -> None:
    """A reader that refuses even what is sound would find nothing: its refusal is raised before the first case."""
    (tmp_path / "file.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="no"):
        fuzz.need_taken(fuzz.Target("planted", lambda _: None, _refuse_without_words), tmp_path)
