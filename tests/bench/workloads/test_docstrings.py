"""Docstrings as data: masked, without duplicates, split by module."""

from pathlib import Path

import pytest
from weighbridge.bench.workloads import docstrings
from weighbridge.bench.workloads.docstrings import (
    Docstring,
    balanced,
    by_library,
    library_folders,
    mask,
    read_docstrings,
    source_files,
    stdlib_or_other,
)


def library(folder: Path, name: str) -> Path:
    root = folder / name
    (root / "tests").mkdir(parents=True)
    for number in range(30):
        text = f'"""Function number {number} of numpy and PyTorch adds many things together."""\n\n\ndef f():\n    """Short."""\n'
        (root / f"m{number}.py").write_text(text, encoding="utf-8")
    (root / "twin.py").write_text((root / "m1.py").read_text(encoding="utf-8"), encoding="utf-8")
    (root / "broken.py").write_text("def (", encoding="utf-8")
    (root / "tests" / "test_m.py").write_text(
        '"""A test module whose docstring must not be read at all."""', encoding="utf-8"
    )
    return root


def test_names_of_libraries_are_masked() -> None:
    """No text gives its library away by its name, in any case or spelling."""
    assert (
        mask("Use  NumPy (np),\npandas, scikit-learn and PyTorch.")
        == "Use library (library), library, library and library."
    )
    assert len(mask("word " * 500)) <= 400


def test_docstrings_are_read_once_and_whole_modules_are_held_out(tmp_path: Path) -> None:
    """30 modules give 30 texts: short ones, duplicates, tests and broken files are left out; some modules are held out."""
    found = read_docstrings({"numpy": library(tmp_path, "numpy")})
    assert len(found) == 30
    assert all("numpy" not in each.text.lower() for each in found)
    held = [each for each in found if each.held_out]
    assert 0 < len(held) < 15
    assert read_docstrings({"numpy": tmp_path / "numpy"}) == found


def test_tests_are_no_sources(tmp_path: Path) -> None:
    """Files under tests are not read."""
    assert not [path for path in source_files(library(tmp_path, "x")) if "tests" in path.parts]


def test_balanced_takes_at_most_so_many_of_each(tmp_path: Path) -> None:
    """No library has more than the limit."""
    found = read_docstrings({name: library(tmp_path, name) for name in ("numpy", "scipy")})
    kept = balanced(found, 10)
    assert max(sum(each.library == name for each in kept) for name in ("numpy", "scipy")) <= 10


def test_every_installed_library_is_found_without_importing_it() -> None:
    """The standard library and the dependencies have a folder of sources."""
    assert {"numpy", "pandas", "scipy", "sklearn", "stdlib", "torch"} <= set(library_folders())


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve docstrings of each of three libraries, the last four of them held out."""
    found = [
        Docstring(f"{name} {number}", name, held_out=number >= 8)
        for name in ("numpy", "scipy", "stdlib")
        for number in range(12)
    ]
    monkeypatch.setattr(docstrings, "installed_docstrings", lambda: found)


@pytest.mark.usefixtures("_installed")
def test_each_library_is_a_class() -> None:
    """At most so many of each are trained on, and of the held-out modules evaluated; each is labelled with its library."""
    corpus = by_library(4, 2)
    assert corpus.class_names == ("numpy", "scipy", "stdlib")
    assert corpus.training.texts == tuple(
        f"{name} {number}" for name in ("numpy", "scipy", "stdlib") for number in (0, 2, 4, 6)
    )
    assert corpus.evaluation.texts == tuple(
        f"{name} {number}" for name in ("numpy", "scipy", "stdlib") for number in (8, 10)
    )
    assert corpus.evaluation.labels == ("numpy", "numpy", "scipy", "scipy", "stdlib", "stdlib")


@pytest.mark.usefixtures("_installed")
def test_the_standard_library_stands_against_all_others() -> None:
    """Of the other class as many as of the standard library's, drawn evenly from the other libraries."""
    corpus = stdlib_or_other(8, 4)
    assert corpus.class_names == ("other", "stdlib")
    assert corpus.training.labels == ("other",) * 8 + ("stdlib",) * 8
    others = [text.split()[0] for text in corpus.texts[:8]]
    assert (others.count("numpy"), others.count("scipy")) == (4, 4)
