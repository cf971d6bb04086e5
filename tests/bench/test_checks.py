"""The check before the weighing: answers that are none fail their variant."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from weighbridge.bench import checks
from weighbridge.bench.building import Built, examples_of
from weighbridge.bench.checks import Checked, _tie, _with_divergences, call_length, check, check_all
from weighbridge.bench.config import MeasureConfig, VariantConfig, WorkloadConfig
from weighbridge.bench.predictions import WindowScores
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.fake import prepare_fake
from weighbridge.bench.workloads.prepare import prepare
from weighbridge.bench.workloads.prompts import Prompts
from weighbridge.optimize.build import optimize
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.recipe import Recipe
from weighbridge.optimize.variant import Parity

Write = Callable[..., Path]


def checked(folder: Path, prepared: Prepared) -> Checked:
    built = Built(VariantConfig(name="v", backend="fake", precision="fp32"), "ok", folder=folder)
    return check(built, prepared, ({"batch_size": 1, "threads": 1},), threads=1, provider=None)


@pytest.mark.parametrize(
    ("outputs", "failure"),
    [
        ("scores", ""),
        ("constant", "outputs are constant: the same for all 300 examples"),
        ("random", "its answers to the same batch differ from call to call"),
        ("nan", "gave scores that are not finite numbers for 100.0% of the examples"),
    ],
)
def test_answers_that_are_none_fail_a_variant_however_it_was_made(
    outputs: str, failure: str, tmp_path: Path, fake_variant: Write, fake_workload: Prepared
) -> None:
    """Whatever a build or an adoption let through is caught here, with its reason; sound answers are kept."""
    found = checked(fake_variant(tmp_path / "v", outputs=outputs), fake_workload)
    assert found.failure.startswith(failure)
    assert bool(found.failure) == bool(failure)
    assert (found.answers is None) == bool(failure)


def test_a_few_examples_may_all_be_answered_alike(tmp_path: Path, fake_variant: Write, write_behaviour: Write) -> None:
    """Fifteen equal rows of scores prove nothing: a sound model may be sure of so few."""
    source = write_behaviour(tmp_path / "s.fake.json")
    config = WorkloadConfig(name="w", task="tabular-classification", model=str(source), max_examples=15)
    prepared = prepare_fake(config, source, tmp_path / "prepared")
    assert checked(fake_variant(tmp_path / "v", outputs="constant"), prepared).failure == ""


@pytest.mark.parametrize(
    ("labelled", "scored", "failure"),
    [
        (4, 3, "its outputs have scores for 3 classes, but the labels of the data need 4: give a model with"),
        (3, 1, "its outputs have scores for 2 classes, but the labels of the data need 3: give a model with"),
        (2, 1, ""),
        (3, 4, ""),
    ],
)
def test_a_label_without_a_score_fails_the_variant(
    labelled: int, scored: int, failure: str, tmp_path: Path, fake_variant: Write, write_behaviour: Write
) -> None:
    """Fewer scores than the labels need cost the variant, with both counts; one score is a binary model's, and more do no harm."""
    source = write_behaviour(tmp_path / "s.fake.json", classes=labelled)
    config = WorkloadConfig(name="w", task="tabular-classification", model=str(source), max_examples=12)
    prepared = prepare_fake(config, source, tmp_path / "prepared")
    found = checked(fake_variant(tmp_path / "v", classes=scored), prepared)
    assert found.failure.startswith(failure)
    assert bool(found.failure) == bool(failure)


@pytest.mark.parametrize(("cores", "failing"), [(2, {"stays"}), (1, {"stays", "mends"})])
def test_a_check_that_was_killed_beside_others_is_made_again_alone(
    cores: int,
    failing: set[str],
    tmp_path: Path,
    fake_variant: Write,
    fake_workload: Prepared,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is killed side by side is asked once more when the others are done; what was alone already, or crashed, is not."""
    monkeypatch.setattr(checks, "processor", lambda: SimpleNamespace(cores=cores))
    behaviours: dict[str, dict[str, object]] = {
        "good": {},
        "mends": {"fault": "kill", "fault_at_call": 1},
        "stays": {"fault": "kill", "fault_at_call": 1},
        "crashes": {"fault": "segfault", "fault_at_call": 1},
    }
    built = [
        Built(VariantConfig(name=name, backend="fake"), "ok", folder=fake_variant(tmp_path / name, **behaviour))
        for name, behaviour in behaviours.items()
    ]
    told: list[str] = []

    def mend(fraction: float, text: str) -> None:
        told.append(text)
        if fraction == 1.0:  # the others are done, and with them what it was killed for
            for name in ("mends", "crashes"):
                fake_variant(tmp_path / name)

    found = check_all(built, fake_workload, ({"batch_size": 1, "threads": 1},), threads=1, provider=None, progress=mend)
    assert [each.name for each in found] == list(behaviours)
    assert {each.name for each in found if each.failure} == {"crashes", *failing}
    assert found[2].failure.startswith("its process was killed by signal 9 SIGKILL (by the system for lack of memory")
    words = "was killed and will be checked alone" if cores > 1 else "failed"
    assert told == ["good", f"mends {words}", f"stays {words}", "crashes failed"]


def test_a_generator_of_another_vocabulary_fails_alone() -> None:
    """It cannot be compared token by token and loses its answers; the baseline and one of the same vocabulary keep theirs."""

    def generator(name: str, vocabulary: int) -> Checked:
        tokens = np.full((4, vocabulary), -np.log(vocabulary), np.float32)
        scores = WindowScores(nll=np.ones(2), tokens=np.full(2, 2.0))
        return Checked(name, {"shape": 1.0}, answers=scores, next_tokens=tokens)

    prepared = SimpleNamespace(arrays=lambda *_: {"scored": np.array([[0, 1, 1], [0, 1, 1]])})
    all_ = [generator(name, vocabulary) for name, vocabulary in (("base", 5), ("other", 6), ("like", 5))]
    base, other, like = _with_divergences(all_, prepared, "base")  # type: ignore[arg-type]
    assert (base.failure, like.failure) == ("", "")
    assert isinstance(like.answers, WindowScores)
    assert [each.tolist() for each in like.answers.divergences or ()] == [[0.0, 0.0], [0.0, 0.0]]
    assert other.failure.startswith(
        "its next tokens are over a vocabulary of 6 at 4 places, the baseline's over a vocabulary of 5 at 4 places: "
    )
    assert (other.answers, other.next_tokens, other.call_ms) == (None, None, {})


def test_an_interrupt_ends_the_checks_that_are_under_way(
    tmp_path: Path, fake_variant: Write, fake_workload: Prepared
) -> None:
    """Where the first check's end is an interrupt, one that would hang for an hour beside it is over at once, and left nowhere."""
    behaviours: dict[str, dict[str, object]] = {"good": {}, "hanging": {"fault": "hang", "fault_at_call": 5}}
    built = [
        Built(VariantConfig(name=name, backend="fake"), "ok", folder=fake_variant(tmp_path / name, **told))
        for name, told in behaviours.items()
    ]

    def interrupt(fraction: float, text: str) -> None:
        raise KeyboardInterrupt(fraction, text)

    shapes = ({"batch_size": 1, "threads": 1},)
    kept = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        check_all(built, fake_workload, shapes, threads=1, provider=None, progress=interrupt, kept=kept)
    assert [path.name for path in kept.iterdir()] == ["good"]


def test_the_length_of_a_call_leaves_the_first_one_out() -> None:
    """The median of the calls after the first, a call being the sum of its parts; the first alone where there is no other."""
    assert call_length([[90.0], [1.0, 1.0], [2.0, 1.0], [4.0, 0.0]]) == 3.0
    assert call_length([[90.0]]) == 90.0


def test_a_generator_is_scored_and_answers_as_transformers_does(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy tokens are those of `generate`, likelihoods those of the model's own loss; BF16 diverges a little, FP32 from itself not."""
    import torch
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "t.txt").write_text("the cat sat on the mat, the other one " * 40, encoding="utf-8")
    workload = {"name": "w", "task": "text-generation", "model": str(generator_folder), "data": "t.txt", "window": 32}
    config = WorkloadConfig.model_validate({**workload, "max_prompts": 6})
    measure = MeasureConfig(prompt_lengths=(8,), max_new_tokens=6)
    prepared = prepare(config, measure, tmp_path / "prepared", lambda *_: None, base=tmp_path)
    shape = {"batch_size": 2, "prompt_length": 8, "max_new_tokens": 6, "threads": 1}
    built = []
    for precision in ("fp32", "bf16"):
        recipe = Recipe.from_dict({"backend": "torch", "precision": precision, "steps": []})
        folder = optimize(prepared.source, recipe, examples=examples_of(prepared), cache=ArtifactCache()).folder
        variant = VariantConfig(name=precision, backend="torch", precision=precision, baseline=precision == "fp32")
        built.append(Built(variant, "ok", folder=folder))
    full, half = check_all(built, prepared, (shape,), threads=1, provider=None, progress=lambda *_: None)

    assert (full.failure, half.failure) == ("", "")
    module = AutoModelForCausalLM.from_pretrained(generator_folder).eval()
    prompts = Prompts.read(prepared.folder)
    assert full.generations is not None
    assert len(full.generations.texts) == 6
    for ids, tokens, text in zip(prompts.ids, full.generations.tokens, full.generations.texts, strict=True):
        expected = module.generate(torch.tensor(ids[None]), max_new_tokens=6, do_sample=False)[0, 8:]
        assert tokens.tolist() == expected.tolist()
        assert text == prompts.text_of(expected.numpy())
    assert isinstance(full.answers, WindowScores)
    assert isinstance(half.answers, WindowScores)
    windows = torch.tensor(np.array(prepared.arrays("scoring", 0)["input_ids"]))
    with torch.inference_mode():
        loss = float(module(input_ids=windows, labels=windows).loss)
    assert full.answers.nll.sum() / full.answers.tokens.sum() == pytest.approx(loss, rel=1e-5)
    assert full.answers.divergences is None
    assert half.answers.divergences is not None
    assert 0 < np.concatenate(half.answers.divergences).mean() < 0.1


@pytest.mark.parametrize(("moved", "tie"), [(None, 1e-4), (1e-6, 1e-4), (0.02, 0.04)])
def test_a_near_tie_is_as_wide_as_the_variants_own_rounding(moved: float | None, tie: float) -> None:
    """A variant that is as exact as its source has ties within 0.0001; one whose logits are off by 0.02 within 0.04."""
    parity = None if moved is None else Parity(moved, 0.0, 1.0, 1.0)
    built = SimpleNamespace(variant=SimpleNamespace(manifest=SimpleNamespace(parity=parity)))
    assert _tie(built) == pytest.approx(tie)  # type: ignore[arg-type]
