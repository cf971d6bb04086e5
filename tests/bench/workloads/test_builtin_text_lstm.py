"""The recurrent text workloads at a tiny size."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from weighbridge.bench.judge import Judgement
from weighbridge.bench.reporter import ignore
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.builtin import Made, Request
from weighbridge.bench.workloads.builtin_text_lstm import (
    SENTIMENT,
    TOPIC,
    sentiment_network,
    sentiment_with,
    topic_network,
    topic_with,
)
from weighbridge.bench.workloads.data import Rows
from weighbridge.bench.workloads.encode import load_tokenizer
from weighbridge.optimize.backends.base import Predictor
from weighbridge.optimize.errors import InputError
from weighbridge.optimize.loading import load
from weighbridge.optimize.variant import Variant

TINY = replace(TOPIC, vocabulary=40, embedding=8, width=8, length=20, epochs=8, learning_rate=2e-2)


def request(rows: Callable[..., Rows], names: str) -> Request:
    return Request(0, training=rows(names, 480, 1), evaluation=rows(names, 96, 2))


@pytest.mark.usefixtures("trained_here")
def test_a_topic_lstm_is_trained_and_its_int8_variant_judged(
    subject_rows: Callable[..., Rows],
    prepared_of: Callable[[Made, int], Prepared],
    judged: Callable[[Prepared, str], tuple[float, Judgement]],
    built_of: Callable[[Prepared, Any], Variant],
) -> None:
    """Three classes that one word tells apart are learnt; ONNX Runtime's INT8 variant is no worse, and blind to padding too."""
    made = topic_with(TINY, request(subject_rows, "fruit metal tree"), ignore)
    assert made.class_names == ("fruit", "metal", "tree")
    prepared = prepared_of(made, 20)
    accuracy, judgement = judged(prepared, "onnxruntime-int8")
    assert accuracy > 0.9
    assert [gate.verdict for gate in judgement.gates] == ["pass"]
    opened = cast("Predictor", built_of(prepared, "onnxruntime-int8").open())
    ids = np.array(prepared.arrays("evaluation", 20)["input_ids"][:4])
    bare, padded = (
        opened.arrays(opened.infer(opened.load({"input_ids": np.pad(ids, ((0, 0), (more, 0)))})))["logits"]
        for more in (0, 30)
    )
    opened.close()
    np.testing.assert_allclose(padded, bare, atol=1e-6)


@pytest.mark.usefixtures("trained_here")
def test_a_sentiment_lstm_is_trained_pruned_and_its_int8_variant_judged(
    subject_rows: Callable[..., Rows],
    prepared_of: Callable[[Made, int], Prepared],
    judged: Callable[[Prepared, str], tuple[float, Judgement]],
    built_of: Callable[[Prepared, Any], Variant],
) -> None:
    """Two classes are learnt by one unit, the second is the one above 0; torch's INT8 is no worse; units can be taken out."""
    made = sentiment_with(replace(TINY, length=25), request(subject_rows, "metal fruit"), ignore)
    assert made.class_names == ("fruit", "metal")
    prepared = prepared_of(made, 25)
    accuracy, judgement = judged(prepared, "torch-int8")
    assert accuracy > 0.9
    assert [gate.verdict for gate in judgement.gates] == ["pass"]
    ids = load_tokenizer(str(made.tokenizer))(["the apple", "the zinc"], return_tensors="pt")["input_ids"]
    below, above = load(made.source).module(ids).flatten().tolist()
    assert below < 0 < above
    pruned = built_of(prepared, _pruned(0.25))
    assert pruned.manifest.parameters < built_of(prepared, "torch-fp32").manifest.parameters


def _pruned(ratio: float) -> Any:
    from weighbridge.optimize.recipe import Recipe

    steps = [{"use": "structured-pruning", "ratio": ratio}]
    return Recipe.from_dict({"backend": "torch", "precision": "fp32", "steps": steps})


@pytest.mark.parametrize("network", ["topic", "sentiment"])
@torch.inference_mode()
def test_padding_on_the_left_changes_nothing(network: str) -> None:
    """Whatever the weights, the scores of a text are the same with no padding, a little and much: to the last bits of a float."""
    torch.manual_seed(1)
    sizes = {"vocabulary": 50, "embedding": 6, "width": 10}
    module = topic_network(classes=4, **sizes) if network == "topic" else sentiment_network(**sizes)
    module.eval()
    ids = torch.randint(1, 50, (3, 7))
    bare = module(ids)
    for more in (1, 30):
        padded = module(torch.nn.functional.pad(ids, (more, 0)))
        np.testing.assert_allclose(padded, bare, atol=1e-7)


def test_the_sizes_are_those_of_the_systems() -> None:
    """Embedding 16 and two layers of 32 at length 100; embedding 50 and a layer of 128 at length 500; 10,000 words each."""
    topic = topic_network(vocabulary=TOPIC.vocabulary, classes=6, embedding=TOPIC.embedding, width=TOPIC.width)
    assert (topic.embedding.weight.shape, TOPIC.length) == ((10_000, 16), 100)
    assert (topic.first.hidden_size, topic.second.hidden_size, topic.dropout.p) == (32, 32, 0.2)
    sentiment = sentiment_network(SENTIMENT.vocabulary, SENTIMENT.embedding, SENTIMENT.width)
    assert (sentiment.embedding.weight.shape, SENTIMENT.length) == ((10_000, 50), 500)
    assert (sentiment.recurrent.hidden_size, sentiment.score.out_features) == (128, 1)


@pytest.mark.usefixtures("trained_here")
def test_one_unit_refuses_three_classes(subject_rows: Callable[..., Rows]) -> None:
    """Three labels are refused, with them and with where to find the systems that take more than two classes."""
    with pytest.raises(
        InputError, match=r"sentiment-lstm tells two classes apart.* 3 labels .*`weighbridge workloads`"
    ):
        sentiment_with(TINY, request(subject_rows, "fruit metal tree"), ignore)


@pytest.mark.usefixtures("trained_here")
def test_what_was_trained_is_taken_from_the_cache(subject_rows: Callable[..., Rows], trained_here: Path) -> None:
    """The same request trains once; another seed, or other texts, train again."""
    asked = request(subject_rows, "fruit metal")
    first = topic_with(replace(TINY, epochs=1), asked, ignore)
    assert topic_with(replace(TINY, epochs=1), asked, ignore) == first
    assert topic_with(replace(TINY, epochs=1), replace(asked, seed=1), ignore).source != first.source
    topic_with(replace(TINY, epochs=1), request(subject_rows, "fruit tree"), ignore)
    assert len([path for path in (trained_here / "trained").iterdir() if path.is_dir()]) == 3
