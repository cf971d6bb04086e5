"""The files of a user's own code: what is imported counts, what is installed does not."""

import importlib.abc
import json
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from weighbridge.optimize.own_code import own_files


def written(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def module_of(name: str, path: Path) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = str(path)
    return module


def names_of(folder: Path, name: str = "own_models", file: str = "own_models.py") -> list[str]:
    """The files of a module in the folder, as they lie in it."""
    return [str(path.relative_to(folder)) for path in own_files([module_of(name, folder / file)])]


def test_imports_are_followed_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports at the top and within functions, from packages and folders without __init__, absolute and relative, all count."""
    monkeypatch.syspath_prepend(str(tmp_path))
    files = {
        "own_models.py": "from own_blocks import Net\ndef make():\n    from own_pack.late import scale\n    return Net()\n",
        "own_blocks.py": "import own_pack.deep.leaf as leaf\nimport own_models\nclass Net: ...\n",
        "own_pack/__init__.py": "",
        "own_pack/late.py": "from . import beside\nfrom .deep.other import *\nscale = 1\n",
        "own_pack/beside.py": "",
        "own_pack/deep/leaf.py": "",
        "own_pack/deep/other.py": "",
        "own_stray.py": "",
        "own_pack/stray.py": "",
    }
    written(tmp_path, files)
    assert names_of(tmp_path) == [name for name in sorted(files) if "stray" not in name]


def test_the_packages_around_a_module_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a package does when it is imported decides its modules too, and so does what that imports."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written(
        tmp_path,
        {"own_pack/__init__.py": "from .patch import patched\n", "own_pack/patch.py": "", "own_pack/models.py": ""},
    )
    found = names_of(tmp_path, "own_pack.models", "own_pack/models.py")
    assert found == ["own_pack/__init__.py", "own_pack/models.py", "own_pack/patch.py"]


def test_a_package_that_a_finder_provides_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that lies on no import path, as one that is installed to be edited, is found where its finder says."""
    files = {"src/__init__.py": "", "src/models.py": "from .blocks import Net\n", "src/blocks.py": "class Net: ...\n"}
    written(tmp_path, files)

    class Mapped(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
            if fullname != "own_mapped":
                return None
            return spec_from_file_location(fullname, tmp_path / "src" / "__init__.py")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Mapped()])
    assert names_of(tmp_path, "own_mapped.models", "src/models.py") == [
        "src/__init__.py",
        "src/blocks.py",
        "src/models.py",
    ]


def test_what_is_installed_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Python's library nor a package in site-packages is of the user's own; a module of theirs that is given counts alone."""
    site = tmp_path / "lib" / "site-packages"
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.syspath_prepend(str(tmp_path))
    written(tmp_path, {"own_models.py": "import json\nimport numpy\nimport own_installed\n"})
    written(site, {"own_installed.py": "import own_models\n"})
    assert names_of(tmp_path) == ["own_models.py"]
    installed = module_of("own_installed", site / "own_installed.py")
    assert own_files([installed]) == (site / "own_installed.py",)
    assert own_files([json]) == (Path(json.__file__),)


def test_text_that_cannot_be_read_ends_the_road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that is no Python counts and is not followed; imports that must fail, and odd texts, disturb nothing."""
    monkeypatch.syspath_prepend(str(tmp_path))
    files = {
        "own_models.py": 'import own_broken\nfrom ... import above\nfrom . import beside\nodd = "\\d"\n',
        "own_broken.py": "import own_hidden\ndef (\n",
        "own_hidden.py": "",
    }
    written(tmp_path, files)
    assert names_of(tmp_path) == ["own_broken.py", "own_models.py"]


def test_modules_without_a_file_have_none() -> None:
    """A built-in module, and one that was made in memory, are written nowhere."""
    import sys

    assert own_files([sys, ModuleType("made")]) == ()
