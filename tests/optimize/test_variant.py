"""A manifest survives its own file, and a variant says what is wrong with it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from weighbridge.optimize.backends.base import Audit
from weighbridge.optimize.errors import InputError
from weighbridge.optimize.files import sha256_of_file, write_json
from weighbridge.optimize.model import CacheSpec, Signature, TensorSpec
from weighbridge.optimize.variant import MANIFEST, Manifest, Parity, StepRecord, Variant

PARITY = Parity(0.1, 0.01, 0.99, 1.0, ("1x8", "4x8"))
FULL = Manifest(
    backend="fake",
    precision="int8",
    recipe={"backend": "fake", "precision": "int8", "steps": []},
    source={"kind": "fake"},
    calibration_sha256="abc",
    tools={"torch": "2"},
    files=("model.fake.json",),
    sha256={},
    bytes=2,
    parameters=3,
    sparsity=0.5,
    build_seconds=1.5,
    signature=Signature(
        "decoder", (TensorSpec("input_ids", "int64", ("batch", "sequence")),), ("logits",), CacheSpec(2, 4, 8)
    ),
    steps=(StepRecord({"use": "export"}, "applied", details={"n": 1}, parity=PARITY),),
    parity=PARITY,
    audit=Audit(ok=True, nodes={"MatMul": 2}, weight_bytes={"int8": 2}, parameters=3, providers=("CPU",)),
    note="no gain",
)


def written(folder: Path) -> Variant:
    """Write the full manifest with its artifact."""
    folder.mkdir(exist_ok=True)
    (folder / "model.fake.json").write_text("{}", encoding="utf-8")
    manifest = replace(FULL, sha256={"model.fake.json": sha256_of_file(folder / "model.fake.json")})
    write_json(folder / MANIFEST, manifest.to_dict())
    return Variant(folder, manifest)


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    """What is read back is equal, down to nested tuples and the cache's shape."""
    variant = written(tmp_path)
    assert Variant.read(tmp_path) == variant


def test_a_manifest_without_parity_or_cache_survives(tmp_path: Path) -> None:
    """The optional parts may be absent."""
    bare = replace(written(tmp_path).manifest, parity=None, steps=(), signature=replace(FULL.signature, cache=None))
    write_json(tmp_path / MANIFEST, bare.to_dict())
    assert Variant.read(tmp_path).manifest == bare


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}', "null"])
def test_an_unreadable_manifest_is_an_input_error(tmp_path: Path, text: str) -> None:
    """Whatever is wrong with the file, the text names it and says to build again."""
    (tmp_path / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"manifest\.json is not a readable manifest .* build the variant again"):
        Variant.read(tmp_path)


def test_a_missing_manifest_is_an_input_error(tmp_path: Path) -> None:
    """A folder without a manifest is no variant."""
    with pytest.raises(InputError, match="not a readable manifest"):
        Variant.read(tmp_path)


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    """A schema version that this release does not read is named."""
    written(tmp_path)
    data = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8")) | {"schema_version": 99}
    write_json(tmp_path / MANIFEST, data)
    with pytest.raises(InputError, match="schema version 99; this release reads 1"):
        Variant.read(tmp_path)


def test_damage_is_told_by_hash(tmp_path: Path) -> None:
    """A whole artifact has none; a changed one has another hash; a missing one is said to be missing."""
    variant = written(tmp_path)
    assert variant.damage() == ""
    (tmp_path / "model.fake.json").write_text("{ }", encoding="utf-8")
    assert "does not have the hash of its manifest" in variant.damage()
    (tmp_path / "model.fake.json").unlink()
    assert "is missing" in variant.damage()


def test_a_copy_is_whole_and_opens(tmp_path: Path) -> None:
    """A variant that was copied to another folder is undamaged there and can be opened."""
    copy = written(tmp_path / "a").copy_to(tmp_path / "b")
    assert Variant.read(tmp_path / "b").damage() == ""
    copy.open().close()


@pytest.mark.parametrize(
    "change", [{"files": ["../evil"]}, {"files": ["/etc/passwd"]}, {"sha256": {"C:\\evil": "a"}}, {"files": [""]}]
)
def test_a_manifest_that_names_files_elsewhere_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """Whatever a manifest lists lies in its own folder: nothing else is opened, hashed or copied by its word."""
    written(tmp_path)
    data = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8")) | change
    write_json(tmp_path / MANIFEST, data)
    with pytest.raises(InputError, match="which is not a file of its folder"):
        Variant.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bytes": "many"}, "bytes: Input should be a valid integer"),
        ({"build_seconds": "nan"}, "a number in it is not finite"),
        ({"signature": {"kind": "oracle"}}, r"signature\.kind: Input should be 'classifier' or 'decoder'"),
        ({"audit": None}, "audit: Input should be a dictionary"),
    ],
)
def test_a_manifest_of_other_types_is_refused_with_the_place(
    tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    """A number that is a text, one that is none, and parts of another kind are told by where they stand."""
    written(tmp_path)
    data = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8")) | change
    write_json(tmp_path / MANIFEST, data)
    with pytest.raises(InputError, match=rf"is not a readable manifest \({sentence}"):
        Variant.read(tmp_path)
