"""Load a trained model from where it is, and say what decides its outputs."""

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .errors import InputError, NotAvailableYetError, first_line
from .factory import ARCHITECTURE, WEIGHTS, built_module, fill, is_built, make_module, read_architecture, source_files
from .files import sha256_of_file, sha256_of_json
from .int8_plan import INT8
from .model import CacheSpec, FakeModel, Model, OnnxModel, Signature, TensorSpec, TorchModel
from .onnx_files import external_files, read_signature, read_valid
from .pruning_plan import PLAN, Change, cache_after, read_plan
from .quiet import quiet
from .source import Source, SourceKind, Task

_WEIGHTS = ("*.safetensors", "*.bin", "*.index.json")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]


def describe(
    kind: SourceKind,
    reference: str,
    task: Task,
    *,
    search_path: str | None = None,
    weights: str | None = None,
    input_names: tuple[str, ...] = (),
    arguments: Mapping[str, int] | None = None,
) -> Source:
    """Make the source of a model, with the hash of everything that decides its outputs.

    Raises:
        InputError: the files or the factory are missing or damaged.
    """
    bare = Source(kind, reference, task, "", _absolute(search_path), _absolute(weights), input_names, arguments or {})
    return replace(bare, sha256=_sha256(bare))


def _absolute(path: str | None) -> str | None:
    """An artifact is opened again in another process, whose current folder may be another."""
    return str(Path(path).absolute()) if path is not None else None


def _sha256(source: Source) -> str:
    if source.kind == "transformers":
        return _sha256_of_folder(transformers_folder(source.reference))
    if source.kind == "module":
        return _sha256_of_module(source)
    if source.kind == "onnx":
        files = [source.path, *(source.path.parent / name for name in external_files(source.path))]
        return sha256_of_json([sha256_of_file(path) for path in files])
    _need_file(source.path)
    return sha256_of_file(source.path)


def _sha256_of_folder(folder: Path) -> str:
    files = [folder / "config.json", *(path for pattern in _WEIGHTS for path in sorted(folder.glob(pattern)))]
    files += [path for path in (folder / PLAN, folder / INT8) if path.is_file()]
    return sha256_of_json([[path.name, sha256_of_file(path)] for path in files])


def _sha256_of_module(source: Source) -> str:
    """The factory's code and arguments, its module's layers, and every tensor of their state with name, type and shape.

    The code may lie anywhere: the same repository elsewhere has the same hash. Of a built folder it is the hash of its files.
    """
    if is_built(source.reference):
        files = (
            source.path / ARCHITECTURE,
            source.path / WEIGHTS,
            *(path for path in (source.path / INT8,) if path.is_file()),
            *source_files(read_architecture(source.path).source),
        )
        if not files[1].is_file():
            raise InputError(f"{source.reference} holds no {WEIGHTS} beside its {ARCHITECTURE}; build the model again")
        return sha256_of_json([sha256_of_file(path) for path in files])
    module = make_module(source)
    digest = hashlib.sha256()
    for path in source_files(source):
        digest.update(sha256_of_file(path).encode())
    digest.update(json.dumps(dict(source.arguments), sort_keys=True).encode())
    add_module(digest, module)
    return digest.hexdigest()


def add_module(digest: Any, module: Any) -> None:
    """Add a torch module to a hash: its layers with their options as it shows them, and every tensor of its state.

    Addresses of what it holds, which differ from process to process, are left out.
    """
    digest.update(_ADDRESS.sub("", repr(module)).encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {getattr(value, 'dtype', '')} {getattr(value, 'shape', value)}".encode())
        digest.update(_bytes_of(value))


def _bytes_of(value: Any) -> bytes:
    import torch

    if not isinstance(value, torch.Tensor):
        return b""
    raw: bytes = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return raw


def load(source: Source) -> Model:
    """Load the model in evaluation mode on the CPU, with its signature.

    Raises:
        InputError: the files are missing or damaged, or the factory raises or returns no module.
        NotAvailableYetError: a decoder as an ONNX file, or a transformers model for images or tables.
    """
    if source.kind == "onnx":
        return _load_onnx(source)
    if source.kind == "fake":
        return _load_fake(source)
    if source.kind == "transformers":
        return _load_transformers(source)
    if is_built(source.reference):
        _need_floats(source.path)
    return _load_module(source)


def read_source_signature(source: Source) -> Signature:
    """The signature of a source, without loading the weights of a transformers model; raises as `load` does."""
    if source.kind == "module":
        return _load_module(source).signature
    if source.kind != "transformers":
        return load(source).signature
    return _transformers_signature(source, transformers_config(source.reference))


def _transformers_signature(source: Source, config: Any) -> Signature:
    try:
        signature = decoder_signature(config) if source.task == "text-generation" else classifier_signature(config)
    except (AttributeError, TypeError, ArithmeticError) as error:
        raise InputError(
            f"{source.reference}: its config.json does not give the model's sizes ({first_line(error)}); save the model again"
        ) from error
    if signature.cache is None:
        return signature
    return replace(signature, cache=cache_after(signature.cache, read_plan(transformers_folder(source.reference))))


def _load_onnx(source: Source) -> OnnxModel:
    model = read_valid(source.path)
    if source.task == "text-generation":
        raise NotAvailableYetError("a generator as an .onnx file is not available yet; give its transformers folder")
    return OnnxModel(source.path, read_signature(model))


def _load_fake(source: Source) -> FakeModel:
    from .backends.fake_backend import read_behaviour, signature_of

    behaviour = read_behaviour(source.path)
    return FakeModel(json.loads(behaviour.model_dump_json()), signature_of(behaviour))


def _need_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(
            f"model {path} is not a file; give a transformers folder, an .onnx file or package.module:factory"
        )


def _load_module(source: Source) -> TorchModel:
    """A factory's module, or that of a built folder, in FP32, which comes from the factory through its changes."""
    if is_built(source.reference):
        made = read_architecture(source.path)
        names = source.input_names or made.source.input_names
        return _of_module(built_module(source.path).float(), replace(made.source, input_names=names), made.changes)
    return _of_module(make_module(source).eval().to("cpu"), source)


def _of_module(module: Any, source: Source, changes: tuple[Change, ...] = ()) -> TorchModel:
    names = source.input_names or required_inputs(module)
    if not names:
        raise InputError(
            f"the module of {source.reference} names no input in its forward; write forward(self, x) or the like"
        )
    inputs = tuple(TensorSpec(name, "", ("batch",)) for name in names)
    return TorchModel(module, Signature("classifier", inputs, ("logits",)), source, changes)


def required_inputs(module: Any) -> tuple[str, ...]:
    """The parameters of forward that have no default."""
    parameters = inspect.signature(module.forward).parameters.values()
    named = (each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY))
    return tuple(each.name for each in named if each.default is each.empty)


def takes_by_name(module: Any, names: tuple[str, ...]) -> bool:
    """Whether forward can be given every input by its name; otherwise they are given in their order."""
    parameters = inspect.signature(module.forward).parameters
    return set(names) <= set(parameters) or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _load_transformers(source: Source) -> TorchModel:
    import transformers

    if source.task not in ("text-classification", "text-generation"):
        raise NotAvailableYetError(
            f"a transformers model for {source.task} is not available yet; give package.module:factory or an .onnx file"
        )
    generator = source.task == "text-generation"
    auto = transformers.AutoModelForCausalLM if generator else transformers.AutoModelForSequenceClassification
    module = _from_pretrained(auto, source, "eager" if generator else None)
    config = module.config
    if not generator and getattr(config, "use_cache", False):
        config.use_cache = False  # a classifier reads its input once; the cache would be a useless output
    changes = read_plan(transformers_folder(source.reference))
    return TorchModel(module.eval(), _transformers_signature(source, config), source, changes)


def _from_pretrained(auto: Any, source: Source, attention: str | None) -> Any:
    """Load weights as FP32; code that came with the model is never run, and pickles are read as weights only."""
    folder = transformers_folder(source.reference)
    _need_floats(folder)
    if (folder / PLAN).is_file():
        _need_architecture(folder, source)
        return pruned_module(folder, attention).float()
    try:
        with quiet():
            module, report = auto.from_pretrained(
                folder,
                dtype="float32",
                attn_implementation=attention,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:
        raise InputError(f"{source.reference} cannot be loaded for {source.task}: {first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"{source.reference} holds no trained weights for {', '.join(missing[:3])}{' ...' if missing[3:] else ''}: "
            f"it was not saved from a model for {source.task}. Fine-tune and save such a model first."
        )
    return module


def _need_floats(folder: Path) -> None:
    """Refuse to start from a variant whose weights are integers already."""
    if (folder / INT8).is_file():
        raise InputError(
            f"{folder} holds weights in 8 bits, from which nothing can be built; give the model that it was built from, "
            f'or take it as it is: artifact = "{folder}"'
        )


def _need_architecture(folder: Path, source: Source) -> None:
    """Hold a pruned folder to what it is opened for: its plan fits the one architecture that it was saved from."""
    from transformers.models.auto import modeling_auto

    config = transformers_config(str(folder))
    known = (
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        if source.task == "text-generation"
        else modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    )
    found, wanted = (config.architectures or ["no architecture"])[0], known.get(config.model_type)
    if found != wanted:
        raise InputError(
            f"{source.reference} holds a pruned {found}, which is no model for {source.task} "
            f"({wanted or 'none of this kind'} is); give it as what it is, or prune such a model"
        )


def pruned_module(folder: Path, attention: str | None = None) -> Any:
    """The model of a transformers folder with a pruning plan: its config's architecture, pruned before it is filled.

    Raises:
        InputError: the folder's files are damaged or do not fit each other.
        BuildError: the plan is of a later release or does not fit the architecture.
    """
    import transformers

    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                folder, trust_remote_code=False, attn_implementation=attention
            )
            module = _architecture(transformers, config)(config)
    except Exception as error:
        raise InputError(f"{folder} cannot be opened as a transformers model: {first_line(error)}") from error
    return fill(module, read_plan(folder), folder / WEIGHTS, str(folder))


def _architecture(transformers: Any, config: Any) -> Any:
    """The class of models that a config names; nothing else of the library can be named."""
    named = (config.architectures or ["none"])[0]
    found = getattr(transformers, str(named), None)
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    raise ValueError(f"{named} is no architecture of transformers")


def transformers_config(reference: str) -> Any:
    """The config of a transformers model.

    Raises:
        InputError: it is missing or damaged, or names an architecture that transformers does not know.
    """
    import transformers

    folder = transformers_folder(reference)
    try:
        with quiet():
            return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise InputError(f"{reference}: its config.json cannot be used ({first_line(error)})") from error


def transformers_folder(reference: str) -> Path:
    """The folder of a transformers model: the reference itself, or the downloaded snapshot of a hub id.

    Raises:
        InputError: there is no such folder with a config.json, and no such hub id can be had.
    """
    folder = Path(reference)
    if (folder / "config.json").is_file():
        return folder
    if folder.exists() or reference.startswith((".", "/", "~")) or reference.count("/") > 1:
        lack = "it has no config.json" if folder.is_dir() else "there is no such folder"
        raise InputError(f"{reference} is not a transformers folder: {lack}. Save the model with save_pretrained.")
    import huggingface_hub

    try:
        with quiet():
            return Path(huggingface_hub.snapshot_download(reference, allow_patterns=_HUB_FILES))
    except Exception as error:
        raise InputError(
            f"{reference} is neither a folder with a config.json nor a hub id that can be had here: {first_line(error)}"
        ) from error


def classifier_signature(config: Any) -> Signature:
    """The signature of a transformers sequence classifier: token ids, mask, and token types where it has them."""
    names = ["input_ids", "attention_mask"]
    if getattr(config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    return Signature("classifier", tuple(_tokens(name) for name in names), ("logits",))


def decoder_signature(config: Any) -> Signature:
    """The signature of a transformers causal language model, with the shape of its cache."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    cache = CacheSpec(text.num_hidden_layers, heads, size)
    return Signature("decoder", (_tokens("input_ids"), _tokens("attention_mask")), ("logits",), cache)


def _tokens(name: str) -> TensorSpec:
    return TensorSpec(name, "int64", ("batch", "sequence"))
