"""The tree itself: the package list, the one-way road, what importing costs, who says assert."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("optimize", "bench", "reports")
LIGHT_OF_BENCH = {"results", "metrics", "stats", "judge", "schema", "search_findings", "sample_table"}
HEAVY = ("torch", "onnxruntime", "transformers", "tensorrt", "openvino", "sklearn", "pandas")


def product_files() -> list[Path]:
    files = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return [path for path in files if "scripts" not in path.parts]


def absolute_imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, relative ones made absolute within weighbridge."""
    package = ("weighbridge", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[tuple[str, ...]]:
    return {tuple(name.split(".")[1:]) for name in absolute_imports(path) if name.startswith("weighbridge.")}


def test_the_package_list_is_the_tree() -> None:
    """Every folder with an __init__.py is in pyproject's package list, and nothing else is."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")}
    assert sorted(listed) == sorted("weighbridge." + ".".join(folder.parts) for folder in folders)


@pytest.mark.parametrize("path", product_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_road_is_one_way(path: Path) -> None:
    """optimize imports neither bench nor reports; bench imports reports only in its cli; reports only light bench."""
    place = path.relative_to(ROOT).parts
    for module in ours(path):
        if place[0] == "optimize":
            assert module[0] == "optimize", module
        elif place[0] == "bench" and place[1] != "cli":
            assert module[0] in ("optimize", "bench"), module
        elif place[0] == "reports" and module[0] == "bench":
            assert len(module) == 1 or module[1] in LIGHT_OF_BENCH, module


@pytest.mark.parametrize("path", product_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_product_module_validates_by_assert(path: Path) -> None:
    """No assert statement stands in the product: it would vanish under -O."""
    assert not [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize(
    "code",
    [
        "import weighbridge.optimize, weighbridge.bench, weighbridge.reports",
        "import weighbridge.optimize.recipe, weighbridge.bench.config, weighbridge.bench.judge",
        "import weighbridge.bench.running, weighbridge.bench.worker",
        "from weighbridge.optimize.techniques import technique_names; technique_names()",
        "from weighbridge.optimize.backends import backend, backend_names; [backend(n) for n in backend_names()]",
        "from weighbridge.bench.workloads import builtin, builtin_names; [builtin(n) for n in builtin_names()]",
        "import sys; sys.argv = ['weighbridge', '--help']; from weighbridge.bench.cli.main import app; app(standalone_mode=False)",
    ],
)
def test_importing_loads_nothing_heavy(code: str) -> None:
    """Neither the packages, nor the registries, nor --help load a heavy library."""
    check = f"import sys\n{code}\nprint([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-P", "-c", check], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_reports_need_no_inference_library() -> None:
    """The reports package imports with torch, ONNX Runtime and TensorRT absent."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnxruntime', 'tensorrt', 'transformers'): sys.modules[name] = None\n"
        "import weighbridge.reports.rendering, weighbridge.reports.html, weighbridge.reports.frames\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
