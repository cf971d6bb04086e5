"""A clean-up of the graph stays only where it answers as before and is measurably faster; the record says why."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from weighbridge.optimize.errors import BuildError, ConfigError
from weighbridge.optimize.model import Batch, Examples
from weighbridge.optimize.onnx_audit import census_of, mismatch
from weighbridge.optimize.onnx_files import count_nodes
from weighbridge.optimize.parity import reference_of
from weighbridge.optimize.quick_timing import Ratio
from weighbridge.optimize.recipe import step_from_dict
from weighbridge.optimize.techniques import StepResult, graph_optimization, technique

Get = Callable[[str], Any]
FASTER, SLOWER, SAME = Ratio(0.8, 0.7, 0.9), Ratio(1.1, 1.05, 1.2), Ratio(1.0, 0.99, 1.01)


@pytest.fixture
def optimized(
    onnx_model: Get, probes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., StepResult]:
    """A function (name, ratios, **options) -> the technique's result, with these ratios found at the probes' shapes."""

    def run(name: str, ratios: tuple[Ratio, ...], **options: Any) -> StepResult:
        left = iter(ratios)
        monkeypatch.setattr(graph_optimization, "time_ratio", lambda *_: next(left))
        step = step_from_dict({"use": "graph-optimization", **options})
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        return technique("graph-optimization").apply(onnx_model(name), step, Examples(probes[name]), folder)

    return run


def test_a_pass_that_helps_is_kept(optimized: Any, onnx_model: Get) -> None:
    """Fused attention is in the graph, and the record holds the ratio with its interval at the smallest and largest shape."""
    result = optimized("bert", (FASTER, SAME), passes=["onnxscript-fusions"])
    record = result.details["passes"]["onnxscript-fusions"]
    assert record == {
        "kept": True,
        "reason": "it answers as before and is faster",
        "time_ratio": {"1x16": [0.8, 0.7, 0.9], "4x16": [1.0, 0.99, 1.01]},
    }
    assert count_nodes(onnx.load(str(result.model.path)))["Attention"] == 2
    assert "Attention" not in count_nodes(onnx.load(str(onnx_model("bert").path)))


@pytest.mark.parametrize(
    ("ratios", "reason"),
    [
        ((SAME, SAME), "discarded: at no shape is the whole interval of the time ratio below 0.995"),
        ((Ratio(0.9, 0.8, 0.996), SAME), "discarded: at no shape is the whole interval of the time ratio below 0.995"),
        ((FASTER, SLOWER), "discarded: it may cost more than 2% at 4x16"),
    ],
)
def test_a_pass_that_does_not_surely_help_is_discarded(
    optimized: Any, onnx_model: Get, ratios: tuple[Ratio, ...], reason: str
) -> None:
    """The graph stays as it was, and the record says why."""
    result = optimized("bert", ratios, passes=["ort-offline"])
    assert result.model == onnx_model("bert")
    assert result.details["passes"]["ort-offline"]["kept"] is False
    assert result.details["passes"]["ort-offline"]["reason"] == reason


def test_passes_follow_each_other(optimized: Any) -> None:
    """Each pass works on what the one before it left, and each is judged for itself."""
    result = optimized("bert", (FASTER, FASTER, FASTER, FASTER, SAME, SAME))
    assert {name: record["kept"] for name, record in result.details["passes"].items()} == {
        "first-position": True,
        "onnxscript-fusions": True,
        "ort-offline": False,
    }
    counts = count_nodes(onnx.load(str(result.model.path)))
    assert counts["Attention"] == 1, "the last layer's queries are cut, so that its attention is not of the fused kind"


def test_a_pass_without_a_place_is_discarded(optimized: Any, onnx_model: Get) -> None:
    """A classifier of rows has no positions to leave out; the record says so, and nothing was timed."""
    result = optimized("mlp", (), passes=["first-position"])
    assert result.model == onnx_model("mlp")
    record = result.details["passes"]["first-position"]
    assert record["reason"] == "discarded: no matrix product computes positions that nothing reads"


def raising(*_: Path) -> None:
    raise ValueError("no such pattern")


def damaging(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes()[:100])


def lying(source: Path, target: Path) -> None:
    model = onnx.load(str(source))
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("head.bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * 3 + 1, bias.name))
    onnx.save(model, str(target))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (raising, r"discarded: it failed \(ValueError: no such pattern\)"),
        (damaging, r"discarded: it failed \(\w+"),
        (lying, "discarded: outputs differ by"),
    ],
)
def test_a_pass_that_breaks_the_graph_is_discarded_unmeasured(
    optimized: Any, onnx_model: Get, monkeypatch: pytest.MonkeyPatch, broken: Any, words: str
) -> None:
    """A pass that raises, writes no valid file, or changes the answers leaves its reason and no ratio."""
    monkeypatch.setitem(graph_optimization._PASSES, "ort-offline", broken)
    result = optimized("mlp", (), passes=["ort-offline"])
    record = result.details["passes"]["ort-offline"]
    assert re.match(words, record["reason"])
    assert (record["kept"], record["time_ratio"]) == (False, {})
    assert result.model == onnx_model("mlp")


@pytest.mark.parametrize("name", ["bert", "gpt2", "lstm", "mlp"])
def test_every_real_pass_is_kept_or_discarded_with_its_reason(
    optimized: Any, torch_model: Get, probes: dict[str, Any], name: str
) -> None:
    """Whatever the passes make of a graph, what comes out answers as the module does."""
    result = optimized(name, (FASTER,) * 6)
    assert all(record["kept"] or record["reason"] for record in result.details["passes"].values())
    reference_of(torch_model(name), probes[name]).verify_model(result.model, exact=True)


@pytest.mark.parametrize("name", ["mlp", "gpt2"])
def test_real_calls_are_timed(onnx_model: Get, probes: dict[str, Any], name: str) -> None:
    """A graph against itself: one finite ratio at the smallest and one at the largest probe, of decoders too."""
    ratios = graph_optimization._ratios(onnx_model(name), onnx_model(name), probes[name])
    assert list(ratios) == {"mlp": ["1x6", "4x6"], "gpt2": ["1x8", "4x8"]}[name]
    assert all(0 < ratio.low <= ratio.value <= ratio.high < float("inf") for ratio in ratios.values())


@pytest.mark.parametrize("use", ["dynamic-int8", "static-int8"])
@pytest.mark.parametrize("name", ["bert", "mlp"])
def test_what_passes_leave_can_be_quantized(
    optimized: Any,
    apply: Any,
    run_model: Any,
    onnx_model: Get,
    probes: dict[str, Any],
    many_rows: dict[str, Batch],
    name: str,
    use: str,
) -> None:
    """After every pass INT8 weights replace float ones, the audit agrees, and the error is INT8's own, not the passes'."""
    plain, fused = onnx_model(name), optimized(name, (FASTER,) * 6).model
    exact = run_model(plain, many_rows[name])
    behind, alone = (apply(model, use, probes[name]).model for model in (fused, plain))
    assert mismatch("int8", census_of(onnx.load(str(behind.path)))) == ""
    error, own = (np.sqrt(np.square(run_model(model, many_rows[name]) - exact).mean()) for model in (behind, alone))
    assert 0 < error <= 1.1 * own
    assert own < 0.25 * np.sqrt(np.square(exact).mean())


def test_what_is_given_must_be_a_graph_and_known_passes(torch_model: Get, apply: Any) -> None:
    """A torch module, an unknown pass and no pass at all are refused in words."""
    with pytest.raises(BuildError, match="graph-optimization changes ONNX graphs only"):
        apply(torch_model("mlp"), "graph-optimization")
    with pytest.raises(ConfigError, match="step 'graph-optimization': passes.0: .*'ort-offline'"):
        step_from_dict({"use": "graph-optimization", "passes": ["slim"]})
    with pytest.raises(ConfigError, match="step 'graph-optimization': passes: .*at least 1 item"):
        step_from_dict({"use": "graph-optimization", "passes": []})
