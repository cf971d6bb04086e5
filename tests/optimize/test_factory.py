"""Modules made by a user's factory."""

import json
import sys
from pathlib import Path

import pytest
from weighbridge.optimize.errors import InputError
from weighbridge.optimize.factory import load_weights, make_module, source_files
from weighbridge.optimize.loading import describe
from weighbridge.optimize.source import Source


def factory(reference: str, search_path: Path, weights: str | None = None) -> Source:
    return Source("module", reference, "tabular-classification", "", str(search_path), weights)


@pytest.fixture
def written(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """A folder with one module of a name that no other test uses, holding several bad and good factories."""
    name = f"written_{abs(hash(request.node.name))}"
    code = (
        "import torch\n"
        "from torch.nn import Linear\n"
        "def plain(): return Linear(2, 2)\n"
        "def raises(): raise OSError('no checkpoint\\nat all')\n"
        "def quits(): raise SystemExit(3)\n"
        "def number(): return 7\n"
        "text = 'no function'\n"
        "def sized(inputs, outputs): return Linear(inputs, outputs)\n"
    )
    (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    return tmp_path, name


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("raises", r"the factory .*:raises raised OSError: no checkpoint$"),
        ("quits", r"the factory .*:quits raised SystemExit: 3"),
        ("number", r"the factory .*:number returned int; it must return a torch\.nn\.Module"),
        ("text", r"has no function 'text'; give the name of a function"),
        ("absent", r"has no function 'absent'"),
    ],
)
def test_a_factory_that_gives_no_module_is_named(written: tuple[Path, str], attribute: str, message: str) -> None:
    """A factory that raises, exits, is missing or returns something else is an input error with its name and cause."""
    folder, name = written
    with pytest.raises(InputError, match=message):
        make_module(factory(f"{name}:{attribute}", folder))


@pytest.mark.parametrize("reference", ["justaname", ":factory", "module:"])
def test_a_reference_without_both_names_says_how_to_write_one(tmp_path: Path, reference: str) -> None:
    """A reference that is not package.module:factory is refused with that form in the text."""
    with pytest.raises(InputError, match=r"write package\.module:factory"):
        make_module(factory(reference, tmp_path))


def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    """A syntax error in the user's file is an input error that names module and cause, not a traceback."""
    (tmp_path / "broken_factory_module.py").write_text("def factory(:\n", encoding="utf-8")
    with pytest.raises(InputError, match="module broken_factory_module cannot be imported: SyntaxError"):
        make_module(factory("broken_factory_module:factory", tmp_path))
    with pytest.raises(InputError, match="module absent_factory_module cannot be imported: ModuleNotFoundError"):
        make_module(factory("absent_factory_module:factory", tmp_path))


def test_a_factory_is_called_with_its_arguments(written: tuple[Path, str]) -> None:
    """Sizes given by name decide the module and its hash, last through a file, and where they do not fit they are told."""

    def sized(**arguments: int) -> Source:
        reference = f"{written[1]}:sized"
        return describe("module", reference, "tabular-classification", search_path=str(written[0]), arguments=arguments)

    wide, narrow = sized(inputs=3, outputs=5), sized(inputs=3, outputs=2)
    assert tuple(make_module(wide).weight.shape) == (5, 3)
    assert wide.sha256 != narrow.sha256
    assert Source.from_dict(json.loads(json.dumps(wide.to_dict()))) == wide
    with pytest.raises(InputError, match=r"the factory .*:sized raised TypeError: .*missing.*outputs"):
        sized(inputs=3)


def test_an_unseeded_factory_gives_the_same_model_every_time(written: tuple[Path, str]) -> None:
    """A factory without trained weights gives equal weights on each call, and the caller's generator is untouched."""
    import torch

    source = factory(f"{written[1]}:plain", written[0])
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first, second = make_module(source), make_module(source)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(torch.rand(3), expected)


def test_the_search_path_is_taken_away_again(written: tuple[Path, str]) -> None:
    """The factory's folder stands on the import path only while the factory works, even when it raises."""
    before = list(sys.path)
    make_module(factory(f"{written[1]}:plain", written[0]))
    with pytest.raises(InputError):
        make_module(factory(f"{written[1]}:raises", written[0]))
    assert sys.path == before


def test_a_module_hidden_by_a_namesake_is_refused(tmp_path: Path) -> None:
    """Where another module of that name was imported before, the wrong model is not silently used."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "namesake_models.py").write_text(
            "from torch.nn import Linear\ndef factory(): return Linear(2, 2)\n", encoding="utf-8"
        )
    make_module(factory("namesake_models:factory", tmp_path / "one"))
    with pytest.raises(InputError, match=r"is hidden by .*one/namesake_models\.py, imported before it; rename"):
        make_module(factory("namesake_models:factory", tmp_path / "two"))


def test_weights_are_loaded_into_the_module(written: tuple[Path, str], tmp_path: Path) -> None:
    """A safetensors file given with the source replaces the factory's own weights."""
    import torch
    from safetensors.torch import save_file

    tensors = {"weight": torch.full((2, 2), 0.5), "bias": torch.tensor([1.0, -1.0])}
    save_file(tensors, tmp_path / "trained.safetensors")
    module = make_module(factory(f"{written[1]}:plain", written[0], str(tmp_path / "trained.safetensors")))
    assert torch.equal(module.weight, tensors["weight"])
    assert torch.equal(module.bias, tensors["bias"])


def test_weights_that_are_missing_or_of_another_module_are_refused(written: tuple[Path, str], tmp_path: Path) -> None:
    """Missing, damaged and unfitting weights are input errors that name the file."""
    import torch
    from safetensors.torch import save_file

    module = make_module(factory(f"{written[1]}:plain", written[0]))
    with pytest.raises(InputError, match=r"the weights .*absent.safetensors are not a file"):
        load_weights(module, tmp_path / "absent.safetensors", "m:f")
    (tmp_path / "damaged.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(InputError, match=r"damaged.safetensors do not fit the module of m:f"):
        load_weights(module, tmp_path / "damaged.safetensors", "m:f")
    save_file({"weight": torch.zeros(3, 3), "bias": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other.safetensors do not fit the module of m:f"):
        load_weights(module, tmp_path / "other.safetensors", "m:f")


def test_the_source_files_are_the_named_and_the_defining_module(tmp_path: Path) -> None:
    """A factory that is only passed on is hashed with the file that defines it, and with what that imports."""
    (tmp_path / "defining_models.py").write_text(
        "from defining_parts import SIZE\nfrom torch.nn import Linear\ndef factory(): return Linear(SIZE, 2)\n",
        encoding="utf-8",
    )
    (tmp_path / "defining_parts.py").write_text("SIZE = 2\n", encoding="utf-8")
    (tmp_path / "passing_models.py").write_text("from defining_models import factory\n", encoding="utf-8")
    files = source_files(factory("passing_models:factory", tmp_path))
    assert [path.name for path in files] == ["defining_models.py", "defining_parts.py", "passing_models.py"]


def test_the_hash_of_a_factory_changes_with_its_code_and_its_weights(tmp_path: Path) -> None:
    """Another line in the factory's file, or another number in its state, gives another hash; the same gives the same."""

    def written_as(name: str, code: str) -> str:
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        return describe("module", f"{name}:factory", "tabular-classification", search_path=str(tmp_path)).sha256

    code = "from torch import nn\ndef factory():\n    made = nn.Linear(2, 2)\n    nn.init.constant_(made.bias, {})\n    return made\n"
    first = written_as("hashed_a", code.format(0))
    assert written_as("hashed_b", code.format(0)) == first
    assert written_as("hashed_c", code.format(1)) != first
    assert written_as("hashed_d", code.format(0) + "# another line\n") != first


def test_the_hash_of_a_factory_is_of_all_code_that_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper's forward decides the hash as the factory's own file does; where the repository lies does not."""
    files = {
        "helped_models": "from helped_blocks import Net\ndef make(): return Net()\n",
        "helped_blocks": "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self): super().__init__(2, 2)\n",
    }
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        for name, text in files.items():
            (tmp_path / folder / f"{name}.py").write_text(text, encoding="utf-8")

    def hash_in(folder: str) -> str:
        for name in files:
            monkeypatch.delitem(sys.modules, name, raising=False)
        search_path = str(tmp_path / folder)
        return describe("module", "helped_models:make", "tabular-classification", search_path=search_path).sha256

    first = hash_in("here")
    assert hash_in("there") == first
    with (tmp_path / "there" / "helped_blocks.py").open("a", encoding="utf-8") as helper:
        helper.write("    def forward(self, x): return -super().forward(x)\n")
    assert hash_in("there") != first
    assert hash_in("here") == first


def test_the_hash_of_a_factory_is_of_its_layers_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that no weight shows decides the hash, and the address of an object that a layer names does not."""
    code = (
        "import itertools, os\nfrom torch import nn\nADDRESSES = itertools.count(4096)\n"
        "class Named(nn.Module):\n    def extra_repr(self): return f'<function f at {hex(next(ADDRESSES))}>'\n"
        "def make(): return nn.Sequential(nn.LeakyReLU(float(os.environ['SLOPE'])), Named())\n"
    )
    (tmp_path / "optioned_models.py").write_text(code, encoding="utf-8")

    def hash_at(slope: str) -> str:
        monkeypatch.setenv("SLOPE", slope)
        return describe("module", "optioned_models:make", "tabular-classification", search_path=str(tmp_path)).sha256

    assert hash_at("0.1") == hash_at("0.1") != hash_at("0.2")
