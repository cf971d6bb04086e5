"""What is installed: every requirement is pinned, and every pin has the hashes of its files."""

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FROM_ELSEWHERE = ("tensorrt",)
"""Extras that need NVIDIA's own index and a GPU: what they take is the machine's affair."""


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    parts = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in parts}


def asked_for() -> Iterator[str]:
    """The requirements of the project with its extras, and of its tests."""
    yield from PROJECT["dependencies"]
    for name, extra in PROJECT["optional-dependencies"].items():
        yield from () if name in FROM_ELSEWHERE else extra
    yield from (ROOT / "requirements-test.txt").read_text(encoding="utf-8").split()


def closure(first: list[Requirement]) -> dict[str, Requirement]:
    """Everything that these requirements ask for in turn, as far as it is installed here."""
    found: dict[str, Requirement] = {}
    while first:
        asked = first.pop()
        name = canonicalize_name(asked.name)
        if name in found or (
            asked.marker and not any(asked.marker.evaluate({"extra": each}) for each in ("", *asked.extras))
        ):
            continue
        found[name] = asked
        try:
            further = metadata.requires(asked.name) or []
        except metadata.PackageNotFoundError:
            continue
        first += [each for each in map(Requirement, further) if "extra" not in str(each.marker)]
    return found


def test_every_requirement_is_pinned() -> None:
    """Whatever Weighbridge and its tests need, directly or in turn, stands in constraints.txt with a version that they accept."""
    pinned = pins()
    for name, asked in closure([Requirement(each) for each in asked_for()]).items():
        assert name in pinned, f"{name} is missing in constraints.txt"
        assert asked.specifier.contains(pinned[name], prereleases=True), f"{asked} and {name}=={pinned[name]}"


def test_every_pin_has_its_hashes() -> None:
    """requirements-hashed.txt holds the versions of constraints.txt and no other, each with SHA-256 hashes and nothing else."""
    text = (ROOT / "requirements-hashed.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.replace("\\\n", " "))
    hashed = {}
    for entry in (each for each in entries if not each.startswith("#")):
        requirement, *hashes = entry.split("--hash=")
        name, version = requirement.split(";")[0].split("==")
        hashed[canonicalize_name(name)] = version.strip()
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each.strip()) for each in hashes), name
    assert hashed == pins(), "bring it up to constraints.txt: python docs/hashes.py"


@pytest.mark.parametrize("environment", ["testenv", "testenv:.pkg"])
def test_tox_installs_pinned_versions(environment: str) -> None:
    """The tests run on the pinned versions; only the wheel is built without them, by the build tool's own isolation."""
    text = (ROOT / "tox.ini").read_text(encoding="utf-8")
    section = text[text.index(f"[{environment}]") :].partition("\n[")[0]
    assert ("PIP_CONSTRAINT = {tox_root}{/}constraints.txt" in section) is (environment == "testenv")
