"""A whole search of a tiny generator in which one layer is badly hurt by 4-bit weights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel
from weighbridge.bench import stages
from weighbridge.bench.config import Config, parse_config
from weighbridge.bench.predictions import read_window_scores
from weighbridge.bench.results import Results
from weighbridge.bench.running import Options
from weighbridge.bench.schema import validate
from weighbridge.bench.search import search
from weighbridge.bench.search_config import Wanted
from weighbridge.bench.session import Weighed
from weighbridge.optimize.quiet import quiet
from weighbridge.optimize.training import TrainingConfig, fit
from weighbridge.reports.search import tables_of

PLANTED = "transformer.h.0.mlp.c_fc"
WINDOWS = 64
SIZE = 32
OUTLIER = 15.0


def text_of(sentences: int, seed: int) -> str:
    """Sentences of five words, of which each but the first follows from the one before."""
    known = ("the cat sat on mat", "a dog ran to me", "my hat is at home")
    return " ".join(np.random.default_rng(seed).choice(known, sentences))


@pytest.fixture(scope="module")
def workplace(generator_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a text, a GPT-2 that has learnt such texts, and a cache.

    Its norm never gives the first input channel of `PLANTED`, whose weights are large: they change no answer, but with one scale a
    block they leave few of the 4 bits to all others.
    """
    folder = tmp_path_factory.mktemp("search-generator")
    (folder / "text.txt").write_text(text_of(1200, seed=1), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(generator_folder)
    with quiet():
        module = GPT2LMHeadModel.from_pretrained(generator_folder)
    block = module.transformer.h[0]
    with torch.no_grad():
        block.ln_2.weight[0] = block.ln_2.bias[0] = 0
    block.ln_2.weight.register_hook(lambda slope: slope * (torch.arange(16) > 0))
    block.ln_2.bias.register_hook(lambda slope: slope * (torch.arange(16) > 0))
    ids = np.array(tokenizer(text_of(600, seed=2)).input_ids)
    rows = {"input_ids": ids[: len(ids) // SIZE * SIZE].reshape(-1, SIZE)}
    fit(module, rows, None, TrainingConfig(learning_rate=1e-2, epochs=8), lambda *_: None)
    with torch.no_grad():
        block.mlp.c_fc.weight[0] = OUTLIER
    module.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIGHBRIDGE_CACHE", str(folder / "cache"))
        yield folder


def config_of() -> Config:
    """INT4 in blocks as long as a column, so that one large weight spoils all of it; two layers are no part of the search."""
    left = ["transformer.h.0.attn.c_proj", "transformer.h.0.mlp.c_proj"]
    step = {"use": "weight-only", "bits": 4, "block_size": 128, "symmetric": True, "exclude": left}
    data: dict[str, Any] = {
        "workload": {"name": "words", "task": "text-generation", "model": "model", "data": "text.txt", "window": SIZE},
        "variants": [
            {"name": "float", "backend": "onnxruntime", "baseline": True},
            {"name": "int4", "backend": "onnxruntime", "precision": "int4", "steps": [step]},
        ],
        "measure": {"prompt_lengths": [8], "max_new_tokens": 4, "max_seconds": 0.2},
    }
    return parse_config(data, "test")


@pytest.fixture(scope="module")
def searched(workplace: Path) -> Results:
    """What came of it; the run that judges takes no times: how it weighs is tested where runs are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "weigh", lambda *_, **__: Weighed())
        return search(config_of(), Wanted(max_drop=0.1), Options(out=workplace / "run", base=workplace))


def test_the_planted_layer_is_found_and_left_in_float(searched: Results) -> None:
    """The layer with the outliers gives back nearly all that 4 bits lost, and with it in float the perplexity budget is kept."""
    found = searched.search
    assert found is not None
    assert found.metric == "perplexity"
    gains = {each.layer: each.accuracy.value for each in found.sensitivity if each.accuracy}
    whole, dense = found.trials[:2]
    assert whole.difference is not None
    assert dense.difference is not None
    assert max(gains, key=lambda layer: gains[layer]) == PLANTED
    assert gains[PLANTED] > -0.5 * whole.difference.value > np.log1p(0.1) / 2
    assert dense.difference.value == pytest.approx(0, abs=1e-3)
    assert (found.chosen, found.met, found.ledger[0].layer) == ("int4-keep-1", True, PLANTED)
    assert "keeps the budget of 10 % on 32 choosing windows of text: perplexity +" in found.sentences[0]


def test_it_is_judged_on_the_windows_that_were_not_chosen_on(searched: Results) -> None:
    """Half of the windows were chosen on, the run judged the perplexity on the other half, and passed."""
    found = searched.search
    assert found is not None
    assert (found.choosing, found.judging) == (WINDOWS // 2, WINDOWS // 2)
    (gate,) = searched.gates
    assert (gate.metric, gate.compare, gate.verdict, gate.variant) == ("perplexity", "ratio", "pass", "int4-keep-1")
    assert gate.limit == {"max": pytest.approx(1.1)}
    assert {each.n for each in searched.measurements if each.metric == "perplexity"} == {WINDOWS // 2}
    with np.load(searched.folder / "search" / "trials" / "001" / "scored.npz") as scored:
        chosen_on = {round(float(each), 3) for each in scored["nll"]}
    judged = read_window_scores(searched.folder)["float"].nll  # the same graph as the float model of trial 1
    assert not chosen_on & {round(float(each), 3) for each in judged}
    validate(json.loads((searched.folder / "results.json").read_text(encoding="utf-8")))


def test_trials_keep_divergences_but_not_the_next_tokens_they_come_from(searched: Results) -> None:
    """Of all trials only whole INT4 and the float model, the first two, hold megabytes; the divergence told is the mean of the places."""
    found = searched.search
    assert found is not None
    for row in (each for each in found.trials if not each.reason):
        with np.load(searched.folder / "search" / "trials" / f"{row.number:03d}" / "scored.npz") as scored:
            assert ("next_tokens" in scored) == (row.number < 2)
            assert scored["nll"].shape == (WINDOWS // 2,)
            if "kl" in scored:
                assert row.kl == pytest.approx(scored["kl"].mean())
    dense = found.trials[1]
    assert dense.kl == 0


def test_the_tables_tell_perplexity_in_percent(searched: Results) -> None:
    """Of a generator sensitivity, ledger and front have perplexity, and a layer that helps lowers it."""
    found = searched.search
    assert found is not None
    sensitivity, ledger, front = tables_of(found)
    assert [(column.title, column.unit) for column in sensitivity.columns[2:3]] == [("Perplexity change", "%")]
    assert sensitivity.rows[0][0].text == PLANTED
    step = found.sensitivity[[each.layer for each in found.sensitivity].index(PLANTED)]
    assert step.accuracy is not None
    assert sensitivity.rows[0][2].text == f"{100 * (np.exp(-step.accuracy.value) - 1):+.2f}"
    for table in (ledger, front):
        assert ("Change", "%") in [(column.title, column.unit) for column in table.columns]
