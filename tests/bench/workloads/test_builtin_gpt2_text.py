"""The generator of the built-in workloads: trained from nothing, fine-tuned, and asked a user's own prompts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from weighbridge.bench.answering import answer
from weighbridge.bench.config import Columns, MeasureConfig, WorkloadConfig
from weighbridge.bench.generation_evidence import window_evidence
from weighbridge.bench.judge import VariantState, judge
from weighbridge.bench.predictions import WindowScores
from weighbridge.bench.reporter import ignore
from weighbridge.bench.rules import Rule
from weighbridge.bench.scoring import score
from weighbridge.bench.workloads import builtin, builtin_gpt2_text
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.builtin import Request
from weighbridge.bench.workloads.builtin_gpt2_text import Size, make_with
from weighbridge.bench.workloads.prepare import prepare
from weighbridge.bench.workloads.prompts import Prompts
from weighbridge.optimize.backends.base import Decoder
from weighbridge.optimize.errors import ConfigError, InputError
from weighbridge.optimize.loading import load
from weighbridge.optimize.variant import Variant

TINY = Size(
    vocabulary=300, width=32, layers=1, heads=2, positions=64, window=32, epochs=3, batch_size=8, learning_rate=1e-2
)


def sentences(count: int, seed: int) -> str:
    """So many sentences of a small language, a line each."""
    random = np.random.default_rng(seed)
    who, did, what = ("the cat", "a dog", "the old man"), ("saw", "took", "wanted"), ("the mat", "a bone", "his hat")
    return "\n".join(f"{random.choice(who)} {random.choice(did)} {random.choice(what)}." for _ in range(count))


@pytest.fixture
def own(tmp_path: Path, trained_here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Prepared]:
    """The workload at a tiny size on a user's files, as a config asks for it: (**workload) -> prepared."""
    del trained_here
    monkeypatch.setattr(builtin_gpt2_text, "DEFAULT_SIZE", TINY)
    (tmp_path / "train.txt").write_text(sentences(600, 1), encoding="utf-8")

    def made(**workload: Any) -> Prepared:
        config = WorkloadConfig.model_validate({"builtin": "gpt2-text", "window": 32, **workload})
        measure = MeasureConfig(prompt_lengths=(8,), max_new_tokens=6)
        return prepare(config, measure, tmp_path / "prepared", ignore, base=tmp_path)

    return made


def scores_of(variant: Variant, prepared: Prepared) -> WindowScores:
    arrays = prepared.arrays("scoring", 0)
    decoder = cast("Decoder", variant.open())
    nll, _ = score(decoder, arrays)
    decoder.close()
    return WindowScores(nll, arrays["scored"].sum(axis=1).astype(float))


def test_it_is_trained_from_nothing_and_its_int8_variant_judged(
    own: Callable[..., Prepared], built_of: Callable[[Prepared, Any], Variant], tmp_path: Path
) -> None:
    """A small language is learnt (far fewer than its 300 tokens are likely next); torch's INT8 keeps the perplexity."""
    (tmp_path / "test.txt").write_text(sentences(200, 2), encoding="utf-8")
    prepared = own(data="test.txt", calibration="train.txt")
    assert prepared.calibration_sha256 is not None
    scores = {name: scores_of(built_of(prepared, name), prepared) for name in ("torch-fp32", "torch-int8")}
    base = scores["torch-fp32"]
    assert np.exp(base.nll.sum() / base.tokens.sum()) < 5
    evidence = list(window_evidence(scores, "torch-fp32"))
    rule = Rule("perplexity", "ratio", 1.1, maximum=True)
    judgement = judge([rule], evidence, {name: VariantState("ok") for name in scores}, baseline="torch-fp32")
    assert [gate.verdict for gate in judgement.gates] == ["pass"]


def test_a_table_of_prompts_and_references_is_answered(
    own: Callable[..., Prepared], built_of: Callable[[Prepared, Any], Variant], tmp_path: Path
) -> None:
    """With a CSV of prompts and references the model is trained on the other text, and its greedy answers have a reference each."""
    (tmp_path / "asked.csv").write_text(
        "question,wanted\nthe cat saw, the mat.\na dog took, a bone.\n", encoding="utf-8"
    )
    columns = Columns(text="question", reference="wanted").model_dump()
    prepared = own(data="asked.csv", calibration="train.txt", columns=columns)
    prompts = Prompts.read(prepared.folder)
    assert (prompts.texts, prompts.references) == (("the cat saw", "a dog took"), (" the mat.", " a bone."))
    decoder = cast("Decoder", built_of(prepared, "torch-fp32").open())
    tokens, _ = answer(decoder, prompts)
    decoder.close()
    assert tokens.shape == (2, 6)
    objects = (" the mat.", " a bone.", " his hat.")
    assert all(prompts.text_of(each).startswith(objects) for each in tokens)


def test_a_trained_model_is_fine_tuned(
    generator_folder: Path, trained_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a learning rate near 0 the weights come out as they went in, in windows of the model's own 64 positions at most."""
    del trained_here
    still = replace(builtin_gpt2_text.FINE_TUNING, learning_rate=1e-12)
    monkeypatch.setattr(builtin_gpt2_text, "FINE_TUNING", still)
    text = sentences(40, 1)
    request = Request(0, training_text=text, evaluation_text=text, model=str(generator_folder))
    made = make_with(replace(TINY, window=128), request, ignore)
    before, after = (state_of(folder) for folder in (str(generator_folder), made.source.reference))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-7) for name in before)
    assert make_with(TINY, replace(request, model=None), ignore).source.sha256 != made.source.sha256


def state_of(folder: str) -> dict[str, torch.Tensor]:
    from weighbridge.optimize.loading import describe

    state: dict[str, torch.Tensor] = load(describe("transformers", folder, "text-generation")).module.state_dict()
    return state


@pytest.mark.usefixtures("trained_here")
def test_what_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    """A text shorter than a window, and a model of another kind, are refused with what is wanted."""
    request = Request(0, training_text="the cat", evaluation_text="the cat")
    with pytest.raises(InputError, match="gpt2-text trains on windows of 32 tokens, and the training text has"):
        make_with(TINY, request, ignore)
    bert = tmp_path / "bert"
    bert.mkdir()
    (bert / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(ConfigError, match="gpt2-text fine-tunes a gpt2 model, and .* is a bert model"):
        make_with(TINY, replace(request, model=str(bert)), ignore)


def test_it_answers_with_100_tokens_by_default() -> None:
    """Greedy answers of 100 tokens, unless the config says how many."""
    chosen = builtin("gpt2-text")
    assert chosen.measure_defaults(()) == {"max_new_tokens": 100}
    assert chosen.measure_defaults({"max_new_tokens"}) == {}
