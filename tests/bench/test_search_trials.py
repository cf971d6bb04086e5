"""The trials of a search: made once, journalled, within the time, each failure with its reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.bench import search as searching
from weighbridge.bench.building import Built
from weighbridge.bench.child import Child
from weighbridge.bench.config import VariantConfig
from weighbridge.bench.predictions import ClassPredictions
from weighbridge.bench.reporter import Silent
from weighbridge.bench.search_split import split
from weighbridge.bench.search_trials import TRIALS, Setting, Trials
from weighbridge.bench.workloads.base import Prepared
from weighbridge.optimize.errors import BuildError, WorkerError
from weighbridge.optimize.files import holding

CONDITIONS = {"batch_size": 1, "threads": 1}


@pytest.fixture
def setting(fake_workload: Prepared, tmp_path: Path) -> Setting:
    parts = split(fake_workload, tmp_path, seed=0, sample=48)
    searched = VariantConfig(name="int8", backend="onnxruntime", precision="int8")
    return Setting(tmp_path / "search", searched, parts, CONDITIONS, tmp_path, None, seed=0, max_seconds=100.0)


@pytest.fixture
def building(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_variant: Callable[..., Path]) -> list[VariantConfig]:
    """Builds are fake variants: in INT8 2 ms a call and a tenth of the answers wrong, in float 3 ms; the list of what was asked."""
    asked: list[VariantConfig] = []

    def build(variant: VariantConfig, *_: Any, **__: Any) -> Built:
        asked.append(variant)
        if variant.steps and "broken" in variant.steps[-1]["exclude"]:
            return Built(variant, "failed", reason="it cannot be")
        wrong, time = (0.0, 3.0) if variant.name == "float" else (0.1, 2.0)
        folder = fake_variant(tmp_path / f"built-{len(asked)}", error_rate=wrong, latency_ms=time)
        return Built(variant, "ok", folder=folder)

    monkeypatch.setattr("weighbridge.bench.search_trials.build", build)
    return asked


def lines(setting: Setting) -> list[dict[str, Any]]:
    text = (setting.folder / TRIALS).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_trial_is_scored_timed_and_journalled(setting: Setting, building: list[VariantConfig]) -> None:
    """The float model answers its whole part rightly and takes 3 / 2 of the whole variant's 2 ms in every round, as made."""
    with Trials(setting, Silent()) as trials:
        whole, dense = trials.take((), "whole"), trials.take((), "float")
        alone = trials.take(("a",), "sensitivity")
        assert whole is not None
        assert dense is not None
        assert alone is not None
        assert np.exp(dense.log_ratios) == pytest.approx(1.5)
        assert np.exp(whole.log_ratios) == pytest.approx(1.0)
        assert whole.whole_ms == pytest.approx(2.0)
        labels = setting.parts.choosing.labels()
        scores = [np.load(trials.place(each) / "scores.npy") for each in (dense, whole, alone)]
        assert np.array_equal(scores[0].argmax(axis=1), labels)
        assert [each.shape for each in scores[1:]] == [(150, 3), (48, 3)]
        assert trials.take((), "removal") == whole
    assert [each.name for each in building[:3]] == ["int8", "int8", "float"]
    assert (building[3].steps[0]["use"], building[3].steps[0]["exclude"]) == ("dynamic-int8", ["a"])
    assert [line["number"] for line in lines(setting)] == [0, 1, 2]
    assert (setting.folder / "trials" / "001" / "manifest.json").is_file()


def test_a_trial_that_fails_costs_only_itself(
    setting: Setting, building: list[VariantConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that fails and a process that dies are trials with their reason; they are remembered and not made again."""
    del building
    monkeypatch.setattr(Trials, "_opened", dying)
    with Trials(setting, Silent()) as trials:
        made = [trials.take(kept, "sensitivity") for kept in (("broken",), ("b",))]
    assert [each.reason for each in made if each] == ["failed: it cannot be", "its process was killed"]
    assert [line["reason"] for line in lines(setting)] == ["failed: it cannot be", "its process was killed"]
    with Trials(setting, Silent()) as again:
        assert [again.take(kept, "sensitivity") for kept in (("broken",), ("b",))] == made
    assert len(lines(setting)) == 2


def test_what_there_is_no_search_without_is_tried_again(
    setting: Setting, building: list[VariantConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float model whose process died is a trial that failed; gone on with, it is made anew, under a number of its own."""
    del building
    with monkeypatch.context() as patch, Trials(setting, Silent()) as trials:
        patch.setattr(Trials, "_opened", dying)
        failed = trials.take((), "float")
    with Trials(setting, Silent()) as again:
        made = again.take((), "float")
        assert again.take((), "float") == made
    assert failed is not None
    assert made is not None
    assert (failed.reason, failed.number, made.reason, made.number) == ("its process was killed", 0, "", 1)


def dying(_: Trials) -> Child:
    raise WorkerError("its process was killed")


def test_what_is_tried_stays_in_the_cache(
    setting: Setting, building: list[VariantConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The whole variant is in use until the trials end, a trial's own artifact until it was tried."""
    whole, tried = tmp_path / "built-1", tmp_path / "built-2"
    seen = []

    def looking(_: Trials) -> Child:
        seen.append([is_in_use(whole), is_in_use(tried)])
        raise WorkerError("its process was killed")

    monkeypatch.setattr(Trials, "_opened", looking)
    with Trials(setting, Silent()) as trials:
        trials.take(("b",), "rollback")
        seen.append([is_in_use(whole), is_in_use(tried)])
    seen.append([is_in_use(whole), is_in_use(tried)])
    assert seen == [[True, True], [True, False], [False, False]]
    assert len(building) == 2


def is_in_use(folder: Path) -> bool:
    try:
        with holding(folder):
            return False
    except BlockingIOError:
        return True


def test_no_trial_begins_when_the_time_has_ended(
    setting: Setting, building: list[VariantConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sensitivity ends at 60 % of the budget, the rollback at all of it; what was made before still answers."""
    del building
    monkeypatch.setattr(Trials, "_opened", dying)
    with Trials(setting, Silent()) as trials:
        first = trials.take(("a",), "sensitivity")
        trials.seconds = 60.0
        assert trials.take(("b",), "sensitivity") is None
        assert trials.take(("a",), "rollback") is not None
        trials.seconds = 100.0
        assert trials.take(("b",), "rollback") is None
        assert trials.take(("a",), "sensitivity") == first
        assert trials.take((), "whole") is not None


def test_without_a_whole_variant_there_is_no_search(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where whole INT8 cannot be built, or cannot be tried, the search ends with the reason."""

    def refused(variant: VariantConfig, *_: Any, **__: Any) -> Built:
        return Built(variant, "failed", reason="47 % of the probes")

    monkeypatch.setattr("weighbridge.bench.search_trials.build", refused)
    with (
        Trials(setting, Silent()) as trials,
        pytest.raises(BuildError, match="int8, which is to be searched, is failed: 47 % of the probes"),
    ):
        trials.take((), "whole")
    monkeypatch.setattr(Trials, "whole", lambda _: None)
    answers = ClassPredictions(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2), np.float32), ())
    with (
        Trials(setting, Silent()) as trials,
        pytest.raises(BuildError, match="the search has no whole variant to start from: failed: 47 % of the probes"),
    ):
        searching._Made(trials, answers, setting.parts.choosing)
