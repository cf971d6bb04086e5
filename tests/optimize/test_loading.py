"""Loading trained models, and the hashes of what decides their outputs."""

import fnmatch
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from weighbridge.optimize.errors import InputError, NotAvailableYetError
from weighbridge.optimize.loading import (
    describe,
    load,
    pruned_module,
    read_source_signature,
    required_inputs,
    takes_by_name,
    transformers_config,
    transformers_folder,
)
from weighbridge.optimize.model import CacheSpec, FakeModel, OnnxModel, TensorSpec, TorchModel
from weighbridge.optimize.source import Source


def test_a_classifier_is_loaded_as_fp32_in_evaluation_mode(torch_model: Callable[[str], TorchModel]) -> None:
    """A transformers classifier loads in FP32, without dropout, with its token inputs and its logits as signature."""
    import torch

    model = torch_model("bert")
    assert not model.module.training
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}
    names = ("input_ids", "attention_mask", "token_type_ids")
    assert model.signature.inputs == tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in names)
    assert (model.signature.kind, model.signature.outputs, model.signature.cache) == ("classifier", ("logits",), None)


def test_token_types_are_inputs_only_where_the_model_has_them() -> None:
    """A model with a single token type is given ids and mask only."""
    from transformers import BertConfig
    from weighbridge.optimize.loading import classifier_signature

    signature = classifier_signature(BertConfig(type_vocab_size=1))
    assert [spec.name for spec in signature.inputs] == ["input_ids", "attention_mask"]


@pytest.mark.parametrize(("name", "cache"), [("gpt2", CacheSpec(2, 2, 16)), ("llama", CacheSpec(2, 2, 8))])
def test_a_generator_is_a_decoder_with_its_cache_described(
    torch_model: Callable[[str], TorchModel], name: str, cache: CacheSpec
) -> None:
    """The cache has a pair of tensors a layer, as many heads as keys have, and the size of one head."""
    signature = torch_model(name).signature
    assert signature.kind == "decoder"
    assert signature.cache == cache
    assert [spec.name for spec in signature.inputs] == ["input_ids", "attention_mask"]


def test_a_signature_is_read_without_weights(sources: dict[str, Source], tmp_path: Path) -> None:
    """The signature of a transformers model comes from its config alone and is the one that loading gives."""
    for name in ("bert", "gpt2", "cnn"):
        assert read_source_signature(sources[name]) == load(sources[name]).signature
    shutil.copy(Path(sources["bert"].reference) / "config.json", tmp_path)
    bare = Source("transformers", str(tmp_path), "text-classification", "")
    assert read_source_signature(bare) == read_source_signature(sources["bert"])


def test_a_module_is_loaded_with_the_inputs_of_its_forward(torch_model: Callable[[str], TorchModel]) -> None:
    """A factory's module is in evaluation mode and its inputs carry the names of forward's parameters."""
    for name, expected in (("cnn", "input"), ("lstm", "input_ids"), ("mlp", "features")):
        model = torch_model(name)
        assert not model.module.training
        assert [spec.name for spec in model.signature.inputs] == [expected]
        assert model.source is not None
        assert model.source.kind == "module"


def test_input_names_given_with_the_source_win(factories: Path) -> None:
    """A user may name the inputs of a module whose forward names them otherwise."""
    reference = "tiny_factories.models:cnn"
    source = describe("module", reference, "image-classification", search_path=str(factories), input_names=("pixels",))
    model = load(source)
    assert [spec.name for spec in model.signature.inputs] == ["pixels"]
    assert isinstance(model, TorchModel)
    assert not takes_by_name(model.module, ("pixels",))
    assert takes_by_name(model.module, ("input",))


def test_a_forward_without_named_inputs_is_refused(tmp_path: Path) -> None:
    """A module whose forward takes only *args says what to write."""
    code = "from torch import nn\nclass M(nn.Module):\n    def forward(self, *xs): return xs[0]\ndef factory(): return M()\n"
    (tmp_path / "nameless_models.py").write_text(code, encoding="utf-8")
    with pytest.raises(InputError, match=r"names no input in its forward; write forward\(self, x\)"):
        load(Source("module", "nameless_models:factory", "image-classification", "", str(tmp_path)))


def test_inputs_with_a_default_are_not_required() -> None:
    """Only parameters without a default are inputs; keyword-only ones count."""
    from torch import nn

    class Module(nn.Module):
        def forward(self, a: Any, b: Any = None, *, c: Any) -> Any:
            return a, b, c

    assert required_inputs(Module()) == ("a", "c")


def test_the_hash_is_of_config_and_weights(tiny_bert: Path, tmp_path: Path) -> None:
    """A copy has the same hash; one changed byte of the weights or one changed key of the config gives another."""
    copy = shutil.copytree(tiny_bert, tmp_path / "copy")
    original = describe("transformers", str(tiny_bert), "text-classification").sha256
    assert describe("transformers", str(copy), "text-classification").sha256 == original
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed = describe("transformers", str(copy), "text-classification").sha256
    assert changed != original
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-5}), encoding="utf-8")
    assert describe("transformers", str(copy), "text-classification").sha256 not in (original, changed)


def test_paths_of_a_source_are_absolute(factories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact is opened again in another folder, so the search path is kept as an absolute one."""
    monkeypatch.chdir(factories)
    source = describe("module", "tiny_factories.models:mlp", "tabular-classification", search_path=".")
    assert source.search_path == str(factories)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """A path without a model and a folder without config.json are input errors that say what is missing."""
    with pytest.raises(InputError, match="is not a transformers folder: there is no such folder"):
        describe("transformers", str(tmp_path / "absent"), "text-classification")
    with pytest.raises(InputError, match=r"is not a transformers folder: it has no config\.json"):
        describe("transformers", str(tmp_path), "text-classification")


def test_a_hub_id_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is no folder is looked up at the hub; the hub's refusal is an input error with its first line."""
    import huggingface_hub

    def refuse(name: str, **options: Any) -> str:
        del options
        raise ConnectionError(f"no route to {name}\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(
        InputError, match=r"owner/name is neither .* nor a hub id .*: ConnectionError: no route to owner/name$"
    ):
        transformers_folder("owner/name")


def test_a_hub_id_is_downloaded_without_code_or_pickles(monkeypatch: pytest.MonkeyPatch, tiny_bert: Path) -> None:
    """Of a hub repository only configs, tokenizer files and safetensors are fetched."""
    import huggingface_hub

    asked: dict[str, Any] = {}

    def fetch(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(tiny_bert)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert transformers_folder("owner/name") == tiny_bert
    assert asked["name"] == "owner/name"
    assert not [pattern for pattern in asked["allow_patterns"] if pattern.endswith((".py", ".bin", ".pt", "*"))]


@pytest.mark.parametrize("text", ["", "{", '{"model_type": "no-such-architecture"}'])
def test_a_damaged_config_is_refused(tmp_path: Path, text: str) -> None:
    """An empty, cut or unknown config is an input error, when the config is read and when the model is loaded."""
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"its config\.json cannot be used"):
        transformers_config(str(tmp_path))
    with pytest.raises(InputError, match="cannot be loaded for text-classification"):
        load(Source("transformers", str(tmp_path), "text-classification", ""))


def test_cut_weights_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    """Weights that were cut short are an input error that names the model."""
    copy = shutil.copytree(tiny_bert, tmp_path / "cut")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cut cannot be loaded for text-classification"):
        load(Source("transformers", str(copy), "text-classification", ""))


def test_an_untrained_head_is_refused(tmp_path: Path) -> None:
    """A model saved without a classifier is not given a random one: the missing weights are named."""
    from transformers import BertConfig, BertModel
    from weighbridge.optimize.quiet import quiet

    config = BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    with quiet():
        BertModel(config).save_pretrained(tmp_path)
    message = r"no trained weights for classifier\.bias, classifier\.weight: it was not saved from a model for text-cl"
    with pytest.raises(InputError, match=message):
        load(Source("transformers", str(tmp_path), "text-classification", ""))


def test_a_pickle_that_runs_code_is_refused_unrun(tiny_bert: Path, tmp_path: Path) -> None:
    """Weights in a pickle that would run code on loading are refused, and the code does not run."""
    import torch

    class Command:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    copy = shutil.copytree(tiny_bert, tmp_path / "pickled")
    (copy / "model.safetensors").unlink()
    torch.save({"weight": Command()}, copy / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickled cannot be loaded for text-classification"):
        load(Source("transformers", str(copy), "text-classification", ""))
    assert not (tmp_path / "ran").exists()


def test_a_transformers_model_for_images_is_not_available_yet(tiny_bert: Path) -> None:
    """What this release does not load says so and names what works."""
    with pytest.raises(
        NotAvailableYetError, match=r"for image-classification is not available yet; give package.module"
    ):
        load(Source("transformers", str(tiny_bert), "image-classification", ""))


def test_an_onnx_file_is_loaded_with_the_signature_of_its_graph(onnx_model: Callable[[str], OnnxModel]) -> None:
    """The inputs, types and shapes of an ONNX model come from its graph."""
    path = onnx_model("cnn").path
    model = load(describe("onnx", str(path), "image-classification"))
    assert isinstance(model, OnnxModel)
    assert model.path == path
    assert model.signature.inputs == (TensorSpec("input", "float32", ("batch", 1, 8, 8)),)


def test_a_generator_as_an_onnx_file_is_not_available_yet(onnx_model: Callable[[str], OnnxModel]) -> None:
    """An ONNX decoder says that its transformers folder is needed."""
    with pytest.raises(NotAvailableYetError, match=r"a generator as an \.onnx file is not available yet"):
        load(describe("onnx", str(onnx_model("cnn").path), "text-generation"))


def test_a_fake_model_is_loaded_from_its_behaviour(tmp_path: Path) -> None:
    """A behaviour file is a model, hashed by its bytes; a missing one is an input error."""
    path = tmp_path / "steady.fake.json"
    path.write_text('{"latency_ms": 2.0}', encoding="utf-8")
    model = load(describe("fake", str(path), "tabular-classification"))
    assert isinstance(model, FakeModel)
    assert model.behaviour["latency_ms"] == 2.0
    with pytest.raises(
        InputError, match=r"absent\.fake\.json is not a file; give a transformers folder, an \.onnx file"
    ):
        describe("fake", str(tmp_path / "absent.fake.json"), "tabular-classification")


CODE = """
import pathlib
pathlib.Path({mark!r}).write_text("it ran")
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast
class Ours(BertConfig):
    model_type = "ours"
class Model(BertForSequenceClassification):
    config_class = Ours
class Tokens(BertTokenizerFast):
    pass
"""
REMOTE = {"AutoConfig": "code.Ours", "AutoModelForSequenceClassification": "code.Model"}


@pytest.mark.parametrize("model_type", ["ours", "bert"])
def test_code_that_lies_beside_a_model_is_never_run(tiny_bert: Path, tmp_path: Path, model_type: str) -> None:
    """A config whose auto_map names code of its folder is refused, or loaded as what the library knows; the code is not run."""
    from weighbridge.bench.workloads.encode import load_tokenizer

    folder, mark = tmp_path / "model", tmp_path / "mark"
    shutil.copytree(tiny_bert, folder)
    (folder / "code.py").write_text(CODE.format(mark=str(mark)), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"auto_map": REMOTE, "model_type": model_type}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = {"auto_map": {"AutoTokenizer": ["code.Tokens", "code.Tokens"]}, "tokenizer_class": "Tokens"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    source = Source("transformers", str(folder), "text-classification", "")
    if model_type == "bert":
        load(source)
    else:
        with pytest.raises(InputError, match="cannot be|is not|must be|custom code"):
            load(source)
    with pytest.raises(InputError, match="no tokenizer can be loaded"):
        load_tokenizer(folder)
    assert not mark.exists()


class Planted:
    """A pickle that writes a file where it is read as one."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_pickle_is_read_as_weights_only(tiny_bert: Path, tmp_path: Path) -> None:
    """A pickled checkpoint of tensors loads as the same model; one that would call something is refused, and calls nothing."""
    import torch
    from safetensors.torch import load_file

    folder, mark = tmp_path / "model", tmp_path / "mark"
    folder.mkdir()
    shutil.copy(tiny_bert / "config.json", folder)
    weights = load_file(tiny_bert / "model.safetensors")
    source = Source("transformers", str(folder), "text-classification", "")
    torch.save(weights, folder / "pytorch_model.bin")
    loaded = load(source).module.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    torch.save({**weights, "planted": Planted(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded for text-classification"):
        load(source)
    assert not mark.exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert mark.exists(), "the pickle is one that would have run"


def test_safetensors_go_before_a_pickle_beside_them(tiny_bert: Path, tmp_path: Path) -> None:
    """Where both lie in a folder the pickle is not even looked at."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    (folder / "pytorch_model.bin").write_bytes(b"no pickle at all")
    load(Source("transformers", str(folder), "text-classification", ""))


@pytest.mark.parametrize("change", [{"num_attention_heads": 0, "n_head": 0}, {"hidden_size": "wide", "n_embd": "wide"}])
def test_a_config_without_sizes_is_refused(tiny_gpt2: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    """A generator's config that gives no sizes of its cache is told, not divided by."""
    config = json.loads((tiny_gpt2 / "config.json").read_text(encoding="utf-8")) | change
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match=r"its config\.json (does not give the model's sizes|cannot be used)"):
        read_source_signature(Source("transformers", str(tmp_path), "text-generation", ""))


@pytest.mark.parametrize("named", ["Trainer", "pipeline", "no_such_thing"])
def test_a_pruned_folder_names_only_architectures(tiny_bert: Path, tmp_path: Path, named: str) -> None:
    """What is made from the name in a config is a model of the library; its other classes and functions are never called."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"architectures": [named]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match=f"{named} is no architecture of transformers"):
        pruned_module(folder)


def test_neither_pickles_nor_code_are_fetched_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a hub id only configs, tokenizers and safetensors are asked for."""
    import huggingface_hub

    asked: list[str] = []

    def download(reference: str, *, allow_patterns: list[str]) -> str:
        asked.extend([reference, *allow_patterns])
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert transformers_folder("someone/model") == tmp_path
    reference, *patterns = asked
    assert reference == "someone/model"
    for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer.model"):
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name
    for name in ("pytorch_model.bin", "model.pt", "weights.pkl", "modeling.py", "code.so", "model.onnx"):
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name
