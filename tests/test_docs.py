"""The documents are what the code says: generated pages, README commands, documented options."""

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer
from weighbridge.bench.cli.main import app
from weighbridge.bench.config import parse_config
from weighbridge.optimize.techniques import technique_names

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["metrics.md", "configuration.md", "commands.md"])
def test_generated_pages_are_up_to_date(generator: ModuleType, page: str) -> None:
    """Each reference page is what docs/generate.py writes from the code."""
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == generator.PAGES[page]()


@pytest.mark.parametrize("page", ["metrics.md", "configuration.md", "commands.md"])
def test_the_rows_of_a_generated_table_have_as_many_cells_as_its_head(generator: ModuleType, page: str) -> None:
    """A bar within a cell is escaped, since it would cut the cell off where the page is shown."""
    tables = re.findall(r"(?:^\|.*\n)+", generator.PAGES[page](), flags=re.MULTILINE)
    assert tables
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


def test_every_command_and_option_is_documented() -> None:
    """docs/commands.md has a heading for every command and a row for every option."""
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        for shown, each in [
            (name, command),
            *((f"{name} {sub}", c) for sub, c in getattr(command, "commands", {}).items()),
        ]:
            section = text.split(f"## `weighbridge {shown}`\n")[1].split("\n## ")[0]
            for parameter in each.params:
                assert parameter.name == "help" or all(
                    option in section for option in parameter.opts if option.startswith("-")
                )


def test_ci_runs_exactly_the_readmes_test_command() -> None:
    """The last line of .ci/run is the second shell block of the README, word for word."""
    blocks = re.findall(r"```sh\n(.*?)\n```", README, flags=re.DOTALL)
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").strip().splitlines()[-1] == blocks[1]


def test_the_readmes_tox_environments_exist() -> None:
    """Every `tox run -e NAME` in the README names an environment of tox.ini."""
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    for name in re.findall(r"tox run -e (\w+)", README):
        assert f"[testenv:{name}]" in tox


def test_the_readmes_config_is_valid() -> None:
    """The ten-line config of the README is a valid config of at most ten lines."""
    block = re.findall(r"```toml\n(.*?)\n```", README, flags=re.DOTALL)[0]
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    assert parse_config(tomllib.loads(block), "README").baseline.name == "torch-fp32"


def test_the_configs_of_the_variants_page_are_valid() -> None:
    """Every TOML block of docs/variants.md is a valid config, its steps included, and its table names every technique."""
    page = (ROOT / "docs" / "variants.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)\n```", page, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        assert any(variant.steps for variant in parse_config(tomllib.loads(block), "variants.md").variants)
    table = page.split("## The techniques")[1].split("\n## ")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", table)) >= set(technique_names())


def test_the_config_of_the_gpu_page_is_valid() -> None:
    """The TOML of docs/gpu.md is valid beside a workload."""
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)\n```", page, flags=re.DOTALL)
    workload = {"task": "text-classification", "model": "checkpoints/intents"}
    config = parse_config({"workload": workload, **tomllib.loads(block)}, "gpu.md")
    assert config.measure.device == "cuda"


def test_the_readmes_variants_and_rules_are_valid() -> None:
    """Each TOML block of the README is valid beside what its ten-line config says of model and variants."""
    first, *others = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)\n```", README, flags=re.DOTALL))
    for block in others:
        variants = [*first["variants"], *block.get("variants", ())]
        parse_config({**first, **block, "variants": variants}, "README")
    assert any("steps" in variant for block in others for variant in block.get("variants", ()))


def test_the_readmes_python_is_whole() -> None:
    """The Python of the README compiles and imports only what exists."""
    block = re.findall(r"```python\n(.*?)\n```", README, flags=re.DOTALL)[0]
    compile(block, "README", "exec")
    imports = "\n".join(line for line in block.splitlines() if "import" in line)
    exec(imports, {})  # noqa: S102 - the README's own lines
    assert len([line for line in block.splitlines() if line.strip()]) <= 10


def test_the_readmes_weighbridge_commands_parse() -> None:
    """Every `weighbridge ...` line of the README is a known command with known options."""
    lines = [line for block in re.findall(r"```sh\n(.*?)\n```", README, flags=re.DOTALL) for line in block.splitlines()]
    lines += list(re.findall(r"`(weighbridge [^`]+)`", README))
    group = typer.main.get_command(app)
    for line in (line for line in lines if line.startswith("weighbridge ")):
        _, name, *arguments = shlex.split(line)
        command = group.commands[name]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("--")} <= known


def test_links_in_documents_lead_somewhere() -> None:
    """Every relative link of README, CONTRIBUTING and docs leads to a file of the repository."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_documents_are_plain_text() -> None:
    """No page holds a control character, such as the zero bytes of a table that two programs wrote at once."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        assert all(letter.isprintable() or letter == "\n" for letter in text), page.name


def test_every_promise_of_security_names_tests_that_are_there() -> None:
    """The tests and scripts that SECURITY.md says hold its promises exist."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:tests|bench|docs)/[\w/]+\.py", text))
    assert len(named) > 15
    assert not [name for name in named if not (ROOT / name).is_file()]
