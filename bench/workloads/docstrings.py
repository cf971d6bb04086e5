"""Docstrings of installed libraries: which library does this text come from? Real text that every installation has.

Sources are parsed, never imported. Names of the libraries are masked in the text, duplicates removed, and whole modules go
to one side of the split, so that no function's near twin is on the other.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ...optimize.cache import cache_root
from ...optimize.files import sha256_of_json, write_json
from .corpus import Corpus
from .data import Rows

LIBRARIES = ("numpy", "pandas", "scipy", "sklearn", "stdlib", "torch")
_MASKED = re.compile(r"\b(?:numpy|np|pandas|pd|scipy|scikit[- ]?learn|sklearn|pytorch|torch|python)\b", re.IGNORECASE)
_SPACE = re.compile(r"\s+")
_LEAST_WORDS = 6
_MOST_CHARACTERS = 400
_MOST_FILES = 250
_LARGEST_FILE = 400_000
_TEST_SHARE = 5
_SKIPPED = {"tests", "test", "testing", "idlelib", "lib2to3", "site-packages", "__pycache__", "_vendor"}


@dataclass(frozen=True)
class Docstring:
    """A masked docstring, the library it is from, and whether its module is on the evaluation side."""

    text: str
    library: str
    held_out: bool


def installed_docstrings() -> list[Docstring]:
    """The docstrings of the installed libraries; parsed once for each set of versions, then read from the user's cache."""
    code = Path(__file__).read_text(encoding="utf-8")
    key = sha256_of_json([code, sys.version, {name: _version(name) for name in LIBRARIES}])[:16]
    path = cache_root() / "docstrings" / f"{key}.json"
    if not path.is_file():
        write_json(path, [asdict(each) for each in read_docstrings(library_folders())])
    return [Docstring(**each) for each in json.loads(path.read_text(encoding="utf-8"))]


def _version(library: str) -> str:
    try:
        return importlib.metadata.version({"sklearn": "scikit-learn"}.get(library, library))
    except importlib.metadata.PackageNotFoundError:
        return ""


def library_folders() -> dict[str, Path]:
    """Where each library's sources are; those that are not installed are left out."""
    folders = {"stdlib": Path(sysconfig.get_paths()["stdlib"])}
    for name in LIBRARIES:
        found = importlib.util.find_spec(name) if name != "stdlib" else None
        if found is not None and found.submodule_search_locations:
            folders[name] = Path(next(iter(found.submodule_search_locations)))
    return dict(sorted(folders.items()))


def read_docstrings(folders: dict[str, Path]) -> list[Docstring]:
    """Every masked docstring of the libraries, duplicates removed, in a fixed order."""
    seen: set[str] = set()
    found = []
    for library, folder in folders.items():
        for path in source_files(folder):
            held_out = _held_out(library, path.relative_to(folder))
            for text in docstrings_in(path):
                if text.lower() not in seen:
                    seen.add(text.lower())
                    found.append(Docstring(text, library, held_out))
    return found


def source_files(folder: Path) -> list[Path]:
    """The Python files below a folder, tests left out, at most 250 of them spread evenly over the sorted list."""
    files = [
        path
        for path in sorted(folder.rglob("*.py"))
        if not _SKIPPED & set(path.relative_to(folder).parts) and path.stat().st_size <= _LARGEST_FILE
    ]
    step = max(1, -(-len(files) // _MOST_FILES))
    return files[::step]


def docstrings_in(path: Path) -> Iterator[str]:
    """The masked first paragraphs of a file's docstrings that are long enough to tell anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = mask(ast.get_docstring(node) or "")
            if len(text.split()) >= _LEAST_WORDS:
                yield text


def mask(text: str) -> str:
    """One line of at most 400 characters, the libraries' names replaced by `library`."""
    return _MASKED.sub("library", _SPACE.sub(" ", text)).strip()[:_MOST_CHARACTERS].strip()


def _held_out(library: str, module: Path) -> bool:
    digest = hashlib.sha256(f"{library}/{module.as_posix()}".encode()).digest()
    return digest[0] % _TEST_SHARE == 0


def balanced(docstrings: list[Docstring], most_a_library: int) -> list[Docstring]:
    """At most so many of each library, spread evenly over its docstrings."""
    kept = []
    for library in sorted({each.library for each in docstrings}):
        own = [each for each in docstrings if each.library == library]
        step = max(1, -(-len(own) // most_a_library))
        kept += own[::step]
    return kept


STDLIB, OTHER = "stdlib", "other"
"""The two classes of `stdlib_or_other`."""


def by_library(train_a_class: int, test_a_class: int) -> Corpus:
    """Which library is a docstring from: at most so many of each to train on, and of other modules to evaluate."""
    return corpus(installed_docstrings(), train_a_class, test_a_class)


def stdlib_or_other(train_a_class: int, test_a_class: int) -> Corpus:
    """Whether a docstring is the standard library's; the other class is drawn evenly from all other libraries."""
    found = [replace(each, library=STDLIB if each.library == STDLIB else OTHER) for each in installed_docstrings()]
    return corpus(found, train_a_class, test_a_class)


def corpus(docstrings: Sequence[Docstring], train_a_class: int, test_a_class: int) -> Corpus:
    """Docstrings as labelled texts, the held-out modules' to evaluate."""
    train = balanced([each for each in docstrings if not each.held_out], train_a_class)
    test = balanced([each for each in docstrings if each.held_out], test_a_class)
    return Corpus(_rows(train), _rows(test))


def _rows(docstrings: Sequence[Docstring]) -> Rows:
    return Rows(texts=tuple(each.text for each in docstrings), labels=tuple(each.library for each in docstrings))
