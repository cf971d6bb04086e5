"""An interrupted run is finished from its journal: nothing is done twice, nothing that was measured is lost."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.bench.building import Built
from weighbridge.bench.checks import check_all
from weighbridge.bench.child import Progress
from weighbridge.bench.config import Config, VariantConfig, parse_config
from weighbridge.bench.journal import JOURNAL, Journal, mend_journal, read_journal
from weighbridge.bench.looks import LOOKS
from weighbridge.bench.plan import Plan, ShapePlan
from weighbridge.bench.reporter import Silent
from weighbridge.bench.resuming import Past, begun, planned_before, read_past, resumed_sentences, weighed_before
from weighbridge.bench.running import Options, resume, run
from weighbridge.bench.samples import Recorder, Replicate, key_of
from weighbridge.bench.session import until_decided
from weighbridge.bench.stages import Job, build_stage
from weighbridge.bench.workloads.base import Prepared
from weighbridge.optimize.errors import ConfigError, InputError
from weighbridge.optimize.files import holding, sha256_of_file

Write = Callable[..., Path]
SHAPE = {"batch_size": 1, "threads": 1}
SMALL = Plan((ShapePlan(SHAPE, 3, 10, 5, 0.04),), 0.2, 12, 60.0)


class Interrupting(Silent):
    """Interrupts the run, as a key would, when the words of a stage's progress begin so."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.told: list[str] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        self._heard(name)
        yield lambda fraction, text: self._heard(f"{name}: {text}")  # noqa: ARG005 - only the words matter

    def tell(self, sentence: str) -> None:
        self.told.append(sentence)

    def _heard(self, words: str) -> None:
        if self.at and words.startswith(self.at):
            raise KeyboardInterrupt


def config_of(folder: Path, write: Write) -> Config:
    write(folder / "base.fake.json", latency_ms=2.0)
    write(folder / "next.fake.json", latency_ms=1.0)
    rule = {"metric": "latency_p50", "compare": "ratio", "max": 0.6}
    variants = [
        {"name": "base", "backend": "fake", "baseline": True},
        {"name": "next", "backend": "fake", "artifact": "next.fake.json"},
    ]
    workload = {"name": "w", "task": "tabular-classification", "model": "base.fake.json"}
    return parse_config({"workload": workload, "variants": variants, "gates": {"rules": [rule]}}, "test")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, write_behaviour: Write) -> Iterator[Path]:
    """A folder with a run that was interrupted after its first replicate, in `run`."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHBRIDGE_CACHE", str(folder / "cache"))
        reporter = Interrupting("weighing: replicate 2")
        with pytest.raises(KeyboardInterrupt):
            run(config_of(folder, write_behaviour), Options(folder / "run", folder, quick=True), reporter)
        yield folder


@pytest.fixture
def interrupted(place: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    shutil.copytree(place / "run", tmp_path / "run")
    return tmp_path / "run"


def test_an_interrupted_run_is_finished_and_then_is_finished(
    interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines and samples of before stay as they are, the rest is taken, and the truth comes out; a second time only derives."""
    before = (interrupted / JOURNAL).read_bytes()
    first = (interrupted / "samples" / "replicate-001.parquet").read_bytes()
    results = resume(interrupted)
    assert (interrupted / JOURNAL).read_bytes().startswith(before)
    assert (interrupted / "samples" / "replicate-001.parquet").read_bytes() == first
    events = read_journal(interrupted)
    assert [event["number"] for event in events if event["event"] == "replicate"] == [1, 2, 3, 4]
    for name in ("built", "checked"):
        assert [event["variant"] for event in events if event["event"] == name] == ["base", "next"]
    assert [each.value for each in results.comparisons if each.metric == "latency_p50"] == pytest.approx([0.5])
    assert [gate.verdict for gate in results.gates] == ["pass"]
    assert any("interrupted after 1 replicates and gone on with at" in notice for notice in results.notices)
    assert not list(interrupted.rglob("*.part"))

    reporter = Interrupting("")
    kept = (interrupted / JOURNAL).read_bytes()
    (interrupted / "results.json").unlink()
    abandoned = interrupted.parent / "weighbridge-work-abcdefgh"  # of a process that was killed after the last line
    abandoned.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(interrupted.parent))
    assert resume(interrupted, reporter=reporter).exit_code == results.exit_code == 0
    assert reporter.told == [f"{interrupted} is finished: nothing is done again but its results."]
    assert not abandoned.exists()
    assert (interrupted / JOURNAL).read_bytes() == kept
    assert json.loads((interrupted / "results.json").read_text(encoding="utf-8"))["exit_code"] == 0


def test_a_run_of_other_things_is_refused(place: Path, interrupted: Path, write_behaviour: Write) -> None:
    """A model that changed since has another hash: what was measured of it does not count."""
    model = place / "base.fake.json"
    kept = model.read_bytes()
    write_behaviour(model, latency_ms=3.0)
    try:
        with pytest.raises(
            ConfigError, match="the model changed since the run began, so that what it measured does not count"
        ):
            resume(interrupted)
    finally:
        model.write_bytes(kept)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": "another x8"}, "the machines are another x8 and"),
        ({"versions": {"torch": "1.0"}}, "torch 1.0 and"),
        ({"instruction_sets": ["avx9"]}, "only the first has avx9"),
    ],
)
def test_a_run_of_another_machine_is_refused(change: dict[str, Any], words: str, interrupted: Path) -> None:
    """Another machine, other versions, other instruction sets: the text names them and says to finish it where it was begun."""
    path = interrupted / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    with pytest.raises(ConfigError, match="was begun under other conditions") as raised:
        resume(interrupted)
    assert words in str(raised.value)
    assert "finish it where it was begun, or start it again" in str(raised.value)


def test_what_cannot_be_gone_on_with_says_why(interrupted: Path, tmp_path: Path) -> None:
    """No run folder, one at work, a journal without its first line, a search, a damaged environment: each is one sentence."""
    with pytest.raises(InputError, match="is not a run folder: it has no journal.jsonl"):
        resume(tmp_path / "nowhere")
    with holding(interrupted), pytest.raises(InputError, match="another process is at work on"):
        resume(interrupted)
    (interrupted / "search").mkdir()
    with pytest.raises(InputError, match="is a search: `weighbridge search --resume"):
        resume(interrupted)
    (interrupted / "search").rmdir()
    (interrupted / "environment.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="its environment.json cannot be read"):
        resume(interrupted)
    journal = interrupted / JOURNAL
    journal.write_bytes(journal.read_bytes().partition(b"\n")[2])
    with pytest.raises(InputError, match="does not say how the run was begun"):
        resume(interrupted)


def test_bad_input_that_a_build_finds_takes_the_new_folder_away(tmp_path: Path, write_behaviour: Write) -> None:
    """An artifact that is missing ends the run before anything was measured: no folder of it is left, nor its parents."""
    config = config_of(tmp_path, write_behaviour)
    (tmp_path / "next.fake.json").unlink()
    with pytest.raises(InputError, match="next.fake.json"):
        run(config, Options(tmp_path / "runs" / "run", tmp_path, quick=True))
    assert not (tmp_path / "runs").exists()


def job_of(run_folder: Path, prepared: Prepared, base: Path) -> Job:
    past = read_past(run_folder)
    first = begun(run_folder, past)
    config = parse_config(first.config, "test")
    return Job(run_folder, config, prepared, (SHAPE,), replace(first, base=str(base)), past, Silent())


def test_a_variant_whose_artifact_is_gone_is_built_again_only_as_it_was(
    place: Path, interrupted: Path, fake_workload: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an empty cache the same artifact is built once more and no line is added; another artifact is refused."""
    lines = (interrupted / JOURNAL).read_bytes()
    moved = lines.replace(str(place / "cache").encode(), str(tmp_path / "cache").encode())
    (interrupted / JOURNAL).write_bytes(moved)
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    # The source of the workload fixture is another file than the run's baseline was built from, with other bytes.
    with pytest.raises(ConfigError, match="base is no longer in the cache as it was measured, .* another artifact"):
        build_stage(job_of(interrupted, fake_workload, place))
    model = place / "base.fake.json"
    same = replace(
        fake_workload, source=replace(fake_workload.source, reference=str(model), sha256=sha256_of_file(model))
    )
    same.write()
    built = build_stage(job_of(interrupted, same, place))
    assert [(made.status, made.from_cache) for made in built] == [("ok", False), ("ok", False)]
    assert (interrupted / JOURNAL).read_bytes() == moved


def test_finished_checks_are_not_made_again(tmp_path: Path, fake_workload: Prepared, fake_variant: Write) -> None:
    """A check that was left behind is taken even where its variant is gone; one that failed is made anew."""

    def checked(*names: str) -> dict[str, str]:
        built = [Built(VariantConfig(name=name, backend="fake"), "ok", folder=tmp_path / name) for name in names]
        found = check_all(
            built, fake_workload, (SHAPE,), threads=1, provider=None, progress=lambda *_: None, kept=tmp_path / "kept"
        )
        return {each.name: each.failure for each in found}

    fake_variant(tmp_path / "good")
    assert checked("good", "absent")["good"] == ""
    shutil.rmtree(tmp_path / "good")
    fake_variant(tmp_path / "absent")
    assert checked("good", "absent") == {"good": "", "absent": ""}
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["absent", "good"]


def write_replicate(run_folder: Path, number: int, *, committed: bool) -> None:
    recorder = Recorder(number)
    recorder.add([[1.0 + number]] * 3, ["timed"] * 3, variant="a", shape=key_of(SHAPE), round_=1, visit=1)
    recorder.write(run_folder)
    if committed:
        failed = {"b": "died"} if number > 1 else {}
        Journal(run_folder).write("replicate", number=number, failed=failed, workers={}, sampling_seconds=0.5 * number)


def test_only_replicates_with_their_line_count(tmp_path: Path) -> None:
    """Two replicates with lines are taken as they were, with who failed; samples without a line are removed."""
    for number in (1, 2, 3):
        write_replicate(tmp_path, number, committed=number < 3)
    weighed = weighed_before(tmp_path, read_past(tmp_path))
    assert [each.number for each in weighed.replicates] == [1, 2]
    np.testing.assert_array_equal(weighed.replicates[1].timed["a", key_of(SHAPE)], [[3.0]] * 3)
    assert (weighed.failed, weighed.sampling_seconds) == ({"b": "died"}, 1.0)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        "replicate-001.parquet",
        "replicate-002.parquet",
    ]
    (tmp_path / "samples" / "replicate-001.parquet").unlink()
    with pytest.raises(InputError, match=r"tells of 2 replicates, and its samples are of \[2\]"):
        weighed_before(tmp_path, read_past(tmp_path))


def test_a_run_without_a_replicate_has_nothing_behind_it(tmp_path: Path) -> None:
    """Samples that were written before their first line are removed too."""
    write_replicate(tmp_path, 1, committed=False)
    assert weighed_before(tmp_path, Past()).replicates == []
    assert list((tmp_path / "samples").iterdir()) == []


@pytest.mark.parametrize(("had", "asked"), [(0, [4, 6]), (3, [4, 6]), (4, [4, 6]), (5, [6]), (6, [6])])
def test_looks_that_led_on_are_not_repeated(had: int, asked: list[int]) -> None:
    """Going on after so many replicates asks the judge at the looks that were not passed yet, and takes only what is missing."""
    taken = [Replicate(number, {}, {}) for number in range(1, had + 1)]
    looked: list[int] = []

    def decided() -> bool:
        looked.append(len(taken))
        return len(taken) == 6

    numbers = []
    for number, _ in until_decided(SMALL, taken, decided):
        numbers.append(number)
        taken.append(Replicate(number, {}, {}))
    assert LOOKS[:2] == (4, 6)
    assert (numbers, looked) == (list(range(had + 1, 7)), asked)


def test_the_plan_is_read_back_from_the_journal_as_it_was(tmp_path: Path) -> None:
    """Plan and groups of the first plan line come back equal, whatever later lines say; a line that holds none is an error."""
    journal = Journal(tmp_path)
    journal.write("plan", groups=[["a", "<control>", "b"]], **SMALL.facts())
    journal.write("plan", **replace(SMALL, replicates=4).facts())
    assert planned_before(tmp_path, read_past(tmp_path)) == (SMALL, [["a", "<control>", "b"]])
    (tmp_path / JOURNAL).unlink()
    assert planned_before(tmp_path, Past()) is None
    journal.write("plan", replicates=4)
    with pytest.raises(InputError, match="the plan in its journal is none"):
        planned_before(tmp_path, read_past(tmp_path))


def test_a_line_that_was_cut_short_is_taken_out(tmp_path: Path) -> None:
    """The half of a line, even cut within a letter, is no event, and the next line does not join it."""
    Journal(tmp_path).write("begun", name="ä")
    with (tmp_path / JOURNAL).open("ab") as stream:
        stream.write('{"event": "built", "reason": "ä'.encode()[:-1])
    assert [event["event"] for event in read_journal(tmp_path)] == ["begun"]
    mend_journal(tmp_path)
    Journal(tmp_path).write("weighed")
    assert [event["event"] for event in read_journal(tmp_path)] == ["begun", "weighed"]
    assert read_past(tmp_path).finished


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    """Files and folders under their temporary names go when the run is looked at again; everything else stays."""
    Journal(tmp_path).write("begun")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / ".replicate-001.parquet.x.part").write_bytes(b"half")
    (tmp_path / "checks" / ".base.x.part").mkdir(parents=True)
    (tmp_path / "checks" / ".base.x.part" / "scores.npy").write_bytes(b"half")
    (tmp_path / "mine.part").write_bytes(b"")
    read_past(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [JOURNAL, "mine.part"]


def test_every_interruption_is_told_in_the_results() -> None:
    """One sentence an interruption, with its moment and what was behind it."""
    events = [{"event": "begun"}, {"event": "resumed", "replicates": 3, "date": "2026-11-26T03:00:00+00:00"}]
    assert list(resumed_sentences(events)) == [
        "The run was interrupted after 3 replicates and gone on with at 2026-11-26T03:00:00+00:00."
    ]
