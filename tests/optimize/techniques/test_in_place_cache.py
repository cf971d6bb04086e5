"""The step that lets a generator's cache be grown in place: what it takes, and when it is tried unasked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from weighbridge.optimize.errors import BuildError
from weighbridge.optimize.model import Examples
from weighbridge.optimize.techniques import tried_after_export
from weighbridge.optimize.techniques.in_place_cache import InPlaceCache, apply

Get = Callable[[str], Any]


def test_the_record_says_how_many_operators_were_replaced(onnx_model: Get, tmp_path: Path) -> None:
    """Of a model of two layers two are replaced, and its signature stays."""
    given = onnx_model("llama")
    result = apply(given, InPlaceCache(), Examples(()), tmp_path)
    assert result.details == {"nodes_replaced": 2}
    assert result.model.signature == given.signature


@pytest.mark.parametrize("get", ["onnx_model", "torch_model"])
def test_a_classifier_is_refused(request: pytest.FixtureRequest, get: str, tmp_path: Path) -> None:
    """A classifier, as a graph or as a module, has no cache, and the text says so."""
    with pytest.raises(BuildError, match="changes the ONNX graph of a generator; a classifier has no cache"):
        apply(request.getfixturevalue(get)("mlp"), InPlaceCache(), Examples(()), tmp_path)


def test_it_is_tried_on_generators_for_the_one_runtime_that_has_the_operator() -> None:
    """Only what is exported for ONNX Runtime, and only generators, are tried."""
    assert tried_after_export("onnxruntime", "decoder") == (InPlaceCache(),)
    assert tried_after_export("onnxruntime", "classifier") == ()
    assert tried_after_export("openvino", "decoder") == ()
