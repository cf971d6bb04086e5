"""The doors for pipelines, walked through: the GitHub Actions example, the pre-commit hooks, the page "gate your first model"."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from weighbridge.bench.cli.main import app
from weighbridge.bench.config import parse_config

ROOT = Path(__file__).resolve().parents[1]
HOOKS = {each["id"]: each for each in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))}
WORKFLOW = yaml.safe_load((ROOT / "examples" / "github-actions.yml").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "first-gate.md").read_text(encoding="utf-8")
CONFIG = """
[workload]
name = "w"
task = "tabular-classification"
model = "base.fake.json"
[[variants]]
name = "base"
backend = "fake"
baseline = true
[[variants]]
name = "next"
backend = "fake"
artifact = "next.fake.json"
[[gates.rules]]
metric = "latency_p50"
max = 0.6
"""


@dataclass(frozen=True)
class Job:
    """What a job of the workflow did in its checkout: the output and the exit code of each step by name, and the summary."""

    checkout: Path
    steps: dict[str, tuple[int, str]]
    summary: str


@dataclass(frozen=True)
class Shell:
    """A shell in a checkout, with the command on its path as after an installation."""

    checkout: Path
    commands: Path

    def run(self, line: str) -> tuple[int, str]:
        """Run a line as GitHub does; return its exit code and all that it printed."""
        environment = {
            **os.environ,
            "PATH": f"{self.commands}{os.pathsep}{os.environ['PATH']}",
            "WEIGHBRIDGE_CACHE": str(self.commands / "cache"),
            "GITHUB_STEP_SUMMARY": str(self.checkout / "step.md"),
        }
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line]
        done = subprocess.run(
            command, cwd=self.checkout, env=environment, capture_output=True, text=True, check=False, timeout=240
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of commands that holds `weighbridge`."""
    folder = tmp_path_factory.mktemp("commands")
    command = folder / "weighbridge"
    call = "from weighbridge.bench.cli.main import main; main()"
    command.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -c {shlex.quote(call)} "$@"\n', encoding="utf-8"
    )
    command.chmod(0o755)
    return folder


def checked_out(folder: Path, commands: Path, latency_ms: float) -> Shell:
    """A repository of two fake models, whose rule asks the second to take at most 0.6 of the first's 2 ms."""
    (folder / "base.fake.json").write_text('{"latency_ms": 2.0}', encoding="utf-8")
    (folder / "next.fake.json").write_text(f'{{"latency_ms": {latency_ms}}}', encoding="utf-8")
    (folder / "weighbridge.toml").write_text(CONFIG, encoding="utf-8")
    return Shell(folder, commands)


def worked_off(shell: Shell) -> Job:
    """Work the job off as the runner does: after a failed step only those with a condition that allows it."""
    done: dict[str, tuple[int, str]] = {}
    for step in WORKFLOW["jobs"]["gate"]["steps"]:
        if "run" in step and step["name"] != "Install Weighbridge" and due(step, shell.checkout, done):
            done[step["name"]] = shell.run(step["run"])
    summary = shell.checkout / "step.md"
    return Job(shell.checkout, done, summary.read_text(encoding="utf-8") if summary.exists() else "")


def due(step: dict[str, Any], checkout: Path, done: dict[str, tuple[int, str]]) -> bool:
    """Whether a step is due: by its own condition on a file, or because all before it went well."""
    condition = step.get("if", "")
    found = re.fullmatch(r"\$\{\{ !cancelled\(\) && hashFiles\('([^']+)'\) != '' \}\}", condition)
    if condition:
        assert found is not None, condition
        return (checkout / found[1]).exists()
    return all(code == 0 for code, _ in done.values())


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> dict[str, Job]:
    """The job on a model that is fast enough, on one that is not, and on a config with a typing error."""
    shells = {
        name: checked_out(tmp_path_factory.mktemp(name), commands, latency_ms)
        for name, latency_ms in (("green", 1.0), ("red", 1.9), ("wrong", 1.0))
    }
    (shells["wrong"].checkout / "weighbridge.toml").write_text(CONFIG.replace("metric", "metrik"), encoding="utf-8")
    return {name: worked_off(shell) for name, shell in shells.items()}


def test_the_workflow_installs_before_it_runs_and_keeps_the_run() -> None:
    """It may only read the repository, its steps come in an order that works, and the folder kept is the one written."""
    assert WORKFLOW["permissions"] == {"contents": "read"}
    steps = WORKFLOW["jobs"]["gate"]["steps"]
    names = [step.get("name", step.get("uses")) for step in steps]
    assert names.index("Install Weighbridge") < names.index("Build, weigh and judge") < names.index("Show the verdicts")
    assert steps[names.index("Install Weighbridge")]["run"].startswith("pip install ")
    assert steps[names.index("Keep the run")]["with"]["path"] == "runs/gate"


def test_the_workflow_is_green_where_the_rules_hold(jobs: dict[str, Job]) -> None:
    """Each step ends with 0; the verdict is a notice, and the step's summary the run's."""
    steps = jobs["green"].steps
    assert [code for code, _ in steps.values()] == [0, 0], steps
    assert steps["Show the verdicts"][1].startswith("::notice title=weighbridge pass%3A next latency_p50::next: ")
    assert jobs["green"].summary == (jobs["green"].checkout / "runs" / "gate" / "summary.md").read_text(
        encoding="utf-8"
    )
    assert jobs["green"].summary.startswith("### ✅")


def test_the_workflow_is_red_where_a_rule_fails(jobs: dict[str, Job]) -> None:
    """The run ends with 1, and the verdicts are shown all the same: an error with the ratio, and the summary."""
    steps = jobs["red"].steps
    assert [code for code, _ in steps.values()] == [1, 1], steps
    assert steps["Show the verdicts"][1].startswith("::error title=weighbridge fail%3A next latency_p50::next: ")
    assert "0.95" in steps["Show the verdicts"][1]
    assert jobs["red"].summary.startswith("### ❌")


def test_the_workflow_stops_at_a_config_that_cannot_be_meant(jobs: dict[str, Job]) -> None:
    """A typing error ends the run with 2 and the nearest key; there are no verdicts to show."""
    ((name, (code, printed)),) = jobs["wrong"].steps.items()
    assert (name, code) == ("Build, weigh and judge", 2)
    assert "did you mean 'metric'" in printed


def test_the_hooks_are_what_pre_commit_reads() -> None:
    """Each has an id, a name, an entry that is the installed command, and takes no file names."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert sorted(HOOKS) == ["weighbridge-config", "weighbridge-gate"]
    for hook in HOOKS.values():
        assert hook["name"]
        assert shlex.split(hook["entry"])[0] in scripts
        assert (hook["language"], hook["pass_filenames"]) == ("system", False)
    pattern = re.compile(HOOKS["weighbridge-config"]["files"])
    names = ("weighbridge.toml", "pyproject.toml", "sub/weighbridge.toml", "weighbridge_toml")
    assert [bool(pattern.search(name)) for name in names] == [True, True, False, False]


def test_the_config_hook_refuses_what_cannot_be_meant(jobs: dict[str, Job], commands: Path) -> None:
    """A valid config passes with the plan, one with a typing error is exit 2; neither starts anything."""
    for name, wanted in (("green", 0), ("wrong", 2)):
        before = sorted(jobs[name].checkout.rglob("*"))
        code, printed = Shell(jobs[name].checkout, commands).run(HOOKS["weighbridge-config"]["entry"])
        assert code == wanted, printed
        assert sorted(jobs[name].checkout.rglob("*")) == before


def test_the_gate_hook_is_the_verdict_of_the_latest_run(jobs: dict[str, Job], commands: Path) -> None:
    """It fails where a rule of the latest run failed, and says so where there is no run."""
    for name, wanted in (("red", 1), ("wrong", 2)):
        code, printed = Shell(jobs[name].checkout, commands).run(HOOKS["weighbridge-gate"]["entry"])
        assert code == wanted, printed


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)\n```", PAGE, flags=re.DOTALL)


def page_commands() -> Iterator[list[str]]:
    """The weighbridge commands of the page, word by word, without what follows `;` or `>`."""
    for block in blocks("sh"):
        for line in block.splitlines():
            if line.startswith("weighbridge "):
                yield shlex.split(re.split(r"[;>|]", line)[0])


def test_the_pages_commands_are_known() -> None:
    """Every `weighbridge ...` line of the page is a command with options that exist, and its scripts are in the repository."""
    group = typer.main.get_command(app)
    found = list(page_commands())
    assert {command[1] for command in found} >= {"run", "gate"}
    for _, name, *arguments in found:
        known = {option for parameter in group.commands[name].params for option in parameter.opts}  # type: ignore[attr-defined]
        assert {each for each in arguments if each.startswith("--")} <= known
    for script in re.findall(r"python (\S+\.py)", "\n".join(blocks("sh"))):
        assert (ROOT / script).is_file()


def test_the_pages_configs_are_valid() -> None:
    """Its first TOML block is a whole config; each further one is valid in place of the same tables, or added to it."""
    first, *others = (tomllib.loads(block) for block in blocks("toml"))
    assert parse_config(first, "first-gate.md").gates.rules
    for block in others:
        variants = [*first["variants"], *block.get("variants", ())]
        parse_config({**first, **block, "variants": variants}, "first-gate.md")


def test_the_pages_hooks_exist() -> None:
    """The pre-commit block of the page names hooks that the repository defines."""
    (block,) = (yaml.safe_load(text) for text in blocks("yaml") if "repos:" in text)
    assert {hook["id"] for repo in block["repos"] for hook in repo["hooks"]} == set(HOOKS)
