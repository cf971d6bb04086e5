"""What may be given as a model, and what it is taken for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.optimize.build import optimize
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.errors import BuildError, InputError
from weighbridge.optimize.model import Examples, OnnxModel, TorchModel
from weighbridge.optimize.origin import origin_of
from weighbridge.optimize.source import Source

Get = Callable[[str], Any]


def test_a_source_is_taken_as_it_is(sources: dict[str, Source], probes: dict[str, Any]) -> None:
    """A described source is not described again."""
    assert origin_of(sources["mlp"], None, probes["mlp"]).source is sources["mlp"]


@pytest.mark.parametrize(
    ("name", "kind", "task"),
    [("bert", "transformers", "text-classification"), ("gpt2", "transformers", "text-generation")],
)
def test_a_transformers_folder_says_its_task(
    sources: dict[str, Source], probes: dict[str, Any], name: str, kind: str, task: str
) -> None:
    """The task is read from the config's architecture; the source equals the described one."""
    source = origin_of(sources[name].path, None, probes[name]).source
    assert (source.kind, source.task) == (kind, task)
    assert source == sources[name]


@pytest.mark.parametrize(
    ("name", "task"),
    [("mlp", "tabular-classification"), ("cnn", "image-classification"), ("lstm", "text-classification")],
)
def test_an_onnx_files_task_is_told_from_its_inputs(
    onnx_model: Get, probes: dict[str, Any], name: str, task: str
) -> None:
    """Whole numbers are tokens, grids are images, all else is a table."""
    origin = origin_of(onnx_model(name).path, None, probes[name])
    assert (origin.source.kind, origin.source.task) == ("onnx", task)
    assert isinstance(origin.load(), OnnxModel)


def test_a_factory_is_named_with_a_colon(
    factories: Path, monkeypatch: pytest.MonkeyPatch, probes: dict[str, Any]
) -> None:
    """`package.module:factory` is called; the task given is kept."""
    monkeypatch.syspath_prepend(str(factories))
    origin = origin_of("tiny_factories.models:mlp", "image-classification", probes["mlp"])
    assert (origin.source.kind, origin.source.task) == ("module", "image-classification")
    assert isinstance(origin.load(), TorchModel)


def test_a_fake_model_is_told_by_its_suffix(tmp_path: Path, probes: dict[str, Any]) -> None:
    """A `.fake.json` file is a fake model."""
    (tmp_path / "a.fake.json").write_text("{}", encoding="utf-8")
    assert origin_of(tmp_path / "a.fake.json", None, probes["mlp"]).source.kind == "fake"


def test_a_module_in_memory_can_be_built_for_onnx_runtime(
    torch_model: Get, probes: dict[str, Any], tmp_path: Path
) -> None:
    """A module needs no factory where the file keeps its architecture; PyTorch's own artifact needs one and says so."""
    module, examples, cache = torch_model("mlp").module, Examples(probes["mlp"]), ArtifactCache(tmp_path)
    variant = optimize(module, "onnxruntime-int8", examples=examples, cache=cache)
    assert variant.manifest.source["reference"] == "in memory: Mlp"
    assert optimize(module, "onnxruntime-int8", examples=examples, cache=cache) == variant
    with pytest.raises(BuildError, match="factory"):
        optimize(module, "torch-fp32", examples=examples, cache=cache)


def test_modules_in_memory_are_told_apart_by_weights_and_by_answers(probes: dict[str, Any]) -> None:
    """One number changed, or a forward that answers otherwise with the same weights, is another source.

    The addresses of what a module holds, which are others in each process, make none.
    """
    import torch

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(6, 2)

        def forward(self, features: Any) -> Any:
            return self.layer(features)

    def negated(self: Any, features: Any) -> Any:
        return -self.layer(features)

    def sha256(module: Any) -> str:
        return origin_of(module, None, probes["mlp"]).source.sha256

    other = type("Plain", (Plain,), {"forward": negated})
    held = [f"made by {each}" for each in (object(), object())]
    holding = [type("Plain", (Plain,), {"extra_repr": lambda _, words=words: words}) for words in held]
    changed = Plain()
    with torch.no_grad():
        changed.layer.weight[0, 0] += 1
    assert sha256(Plain()) == sha256(Plain())
    assert held[0] != held[1]
    assert sha256(holding[0]()) == sha256(holding[1]())
    assert len({sha256(Plain()), sha256(other()), sha256(changed)}) == 3


def test_no_model_is_an_input_error(probes: dict[str, Any]) -> None:
    """Anything else is named by its kind, with what may be given."""
    with pytest.raises(InputError, match="the model is a ndarray; give a torch.nn.Module, a transformers folder"):
        origin_of(np.zeros(3), None, probes["mlp"])


def test_no_probes_are_an_input_error(sources: dict[str, Source]) -> None:
    """Without real inputs nothing can be verified, and the text says what to give."""
    with pytest.raises(InputError, match="give at least one batch as Examples.probes"):
        origin_of(sources["mlp"], None, ())
