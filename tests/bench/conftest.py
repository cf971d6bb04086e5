"""Fake variants and workloads: known truth for the meter, the judge and the command line."""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from weighbridge.bench.config import WorkloadConfig
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.fake import prepare_fake
from weighbridge.optimize.backends.base import Audit
from weighbridge.optimize.backends.fake_backend import Behaviour, signature_of
from weighbridge.optimize.files import sha256_of_file, write_json
from weighbridge.optimize.variant import MANIFEST, Manifest

END = "<end>"
SCRIPTS = Path(__file__).resolve().parents[2] / "bench" / "scripts"


def _write_behaviour(path: Path, **behaviour: Any) -> Path:
    """Write a behaviour file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(behaviour), encoding="utf-8")
    return path


def _fake_variant(folder: Path, **behaviour: Any) -> Path:
    """Write a built fake variant and return its folder."""
    file = _write_behaviour(folder / "model.fake.json", **behaviour)
    manifest = Manifest(
        backend="fake",
        precision="fp32",
        recipe={"backend": "fake", "precision": "fp32", "steps": []},
        source={},
        calibration_sha256=None,
        tools={},
        files=(file.name,),
        sha256={file.name: sha256_of_file(file)},
        bytes=file.stat().st_size,
        parameters=1,
        sparsity=0.0,
        build_seconds=0.0,
        signature=signature_of(Behaviour()),
        steps=(),
        parity=None,
        audit=Audit(ok=True),
    )
    write_json(folder / MANIFEST, manifest.to_dict())
    return folder


@pytest.fixture
def fake_workload(tmp_path: Path) -> Prepared:
    """A prepared fake workload of 300 examples in three classes."""
    path = _write_behaviour(tmp_path / "source.fake.json")
    config = WorkloadConfig(name="fake", task="tabular-classification", model=str(path))
    return prepare_fake(config, path, tmp_path / "prepared")


@pytest.fixture(scope="session")
def fake_variant() -> Callable[..., Path]:
    """Write a built fake variant: (folder, **behaviour) -> folder."""
    return _fake_variant


@pytest.fixture(scope="session")
def write_behaviour() -> Callable[..., Path]:
    """Write a behaviour file: (path, **behaviour) -> path."""
    return _write_behaviour


@pytest.fixture(scope="session")
def generator_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 of 64 positions with random weights, and a byte-level tokenizer learnt from a few words."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast
    from weighbridge.optimize.quiet import quiet

    folder = tmp_path_factory.mktemp("generator")
    learnt = ByteLevelBPETokenizer()
    learnt.train_from_iterator(
        ["the cat sat on the mat"] * 4, vocab_size=280, special_tokens=[END], show_progress=False
    )
    tokenizer = GPT2TokenizerFast(tokenizer_object=learnt._tokenizer, eos_token=END, bos_token=END)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64, "vocab_size": len(tokenizer)}
    with quiet():
        config = GPT2Config(initializer_range=0.5, bos_token_id=0, eos_token_id=0, **sizes)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def load_script() -> Iterator[Callable[[str], ModuleType]]:
    """Load a script of bench/scripts as a module: (name) -> module."""
    loaded: list[str] = []

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # its dataclasses look themselves up there
        loaded.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        del sys.modules[name]
