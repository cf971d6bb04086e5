"""Files of others through the whole command line: hostile names, labels and slices, secrets in the environment, no network."""

import csv
import html.parser
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pyarrow.parquet
import pytest
from onnx import TensorProto, helper, numpy_helper
from weighbridge.bench.child import child_environment

COMMAND = [sys.executable, "-P", "-c", "from weighbridge.bench.cli.main import main; main()"]
MARKUP = "<script>alert(1)</script> [red] | `x` @team"
STEERING = "\x1b[31mred\x1b[0m\u202e\u2028\x85"
LABELS = (f"=1+1 {MARKUP}", f"@SUM {STEERING}", "plain")
SLICES = (f"+1 {MARKUP}", f"-1 {STEERING}")
SECRETS = {
    name: f"kept-secret-{number}"
    for number, name in enumerate(("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "GITHUB_TOKEN", "DATABASE_URL", "PASSWORD"))
}
GUARD = """
import os, sys

_EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")


def _refuse(event, arguments):
    if event in _EVENTS and not (event == "socket.connect" and isinstance(arguments[1], (str, bytes))):
        with open(os.environ["GUARD_LOG"], "a") as log:
            log.write(f"{event} {arguments}\\n")
        raise PermissionError("this process may not use the network")


sys.addaudithook(_refuse)
"""


@dataclass(frozen=True)
class Guarded:
    """An environment in which every process of Python refuses the network and writes down who asked for it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        ours = {
            "PYTHONPATH": str(self.folder),
            "GUARD_LOG": str(self.log),
            "WEIGHBRIDGE_CACHE": str(self.folder / "cache"),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
        return {**kept, **SECRETS, **ours, "HF_HOME": str(self.folder / "hub"), "COLUMNS": "80"}

    @property
    def log(self) -> Path:
        return self.folder / "asked.txt"

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=cwd, env=self.environment, capture_output=True, text=True, check=False, timeout=240
        )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Guarded:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    return Guarded(folder)


def linear(path: Path, weight: float) -> None:
    table = (weight * np.random.default_rng(0).standard_normal((4, 3))).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["../x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("../x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(table, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))


def write_hostile(folder: Path) -> None:
    """Two models whose input is called `../x`, a table with hostile labels and slices, a config with a hostile name."""
    linear(folder / "a.onnx", 1.0)
    linear(folder / "b.onnx", -1.0)
    values = np.random.default_rng(1).standard_normal((60, 4))
    with (folder / "test.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["a", "b", "c", "d", "label", "group"])
        writer.writerows([*row, LABELS[index % 3], SLICES[index % 2]] for index, row in enumerate(values))
    name = json.dumps(f"../../evil/{MARKUP} {STEERING}")
    (folder / "weighbridge.toml").write_text(
        f'[workload]\nname = {name}\ntask = "tabular-classification"\nmodel = "a.onnx"\ndata = "test.csv"\n'
        'columns = { slices = ["group"] }\n'
        '[[variants]]\nname = "a"\nartifact = "a.onnx"\nbaseline = true\n'
        '[[variants]]\nname = "b"\nartifact = "b.onnx"\n'
        '[[gates.rules]]\nmetric = "accuracy"\ncompare = "difference"\nmin = -0.99\nslice = "group"\n',
        encoding="utf-8",
    )


@dataclass(frozen=True)
class HostileRun:
    """What a run of the hostile files left and printed."""

    root: Path
    folder: Path
    printed: str


@pytest.fixture(scope="module")
def hostile(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> HostileRun:
    root = tmp_path_factory.mktemp("outer") / "mid" / "inner"
    root.mkdir(parents=True)
    write_hostile(root)
    done = guarded.run(*COMMAND, "run", "--quick", "--max-seconds", "1", cwd=root)
    assert done.returncode in (0, 1, 3), done.stderr
    judged = guarded.run(*COMMAND, "gate", "latest", "--format", "github", cwd=root)
    assert judged.returncode == done.returncode
    (folder,) = (root / "runs").iterdir()
    printed = "".join(each.stdout + each.stderr for each in (done, judged))
    return HostileRun(root, folder, printed)


def texts(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file of a folder as text; parquet unpacked."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        if path.suffix == ".parquet":
            yield path, repr(pyarrow.parquet.read_table(path).to_pydict())
        yield path, path.read_bytes().decode("utf-8", "replace")


def test_no_name_leads_out_of_the_folders(hostile: HostileRun) -> None:
    """The run folder of a workload called `../../evil/...` lies under runs/, and an input called `../x` writes no file beside."""
    assert re.fullmatch(r"\d{8}-\d{6}-\.\.-\.\.-evil-[\w.-]*", hostile.folder.name)
    assert sorted(path.name for path in hostile.root.iterdir()) == [
        "a.onnx",
        "b.onnx",
        "runs",
        "test.csv",
        "weighbridge.toml",
    ]
    assert [path.name for path in hostile.root.parent.iterdir()] == ["inner"]
    assert [path.name for path in hostile.root.parent.parent.iterdir()] == ["mid"]


def test_nothing_that_is_printed_steers_the_terminal(hostile: HostileRun) -> None:
    """Escapes and marks of direction in names and slices are printed as they would be written."""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028]", hostile.printed)
    assert r"\x1b[31m" in hostile.printed.replace("\n", "")


def test_no_secret_of_the_environment_is_kept_or_printed(hostile: HostileRun) -> None:
    """No value of the environment's secrets stands in any file of the run, packed or not, nor in what was printed."""
    found = list(texts(hostile.folder))
    assert len(found) > 15
    assert any(path.suffix == ".parquet" and "timed" in text for path, text in found), "parquet is looked into"
    for secret in SECRETS.values():
        assert not [path for path, text in found if secret in text]
        assert secret not in hostile.printed


def test_a_run_on_local_files_asks_for_no_network(hostile: HostileRun, guarded: Guarded) -> None:
    """Neither the run nor its judging opened a connection or looked a name up; a process that does is refused and noted."""
    del hostile
    assert not guarded.log.exists()
    asking = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    asked = guarded.run(sys.executable, "-P", "-c", asking, cwd=guarded.folder)
    assert "this process may not use the network" in asked.stderr
    assert "192.0.2.1" in guarded.log.read_text(encoding="utf-8")
    guarded.log.unlink()


def test_a_local_transformers_folder_is_built_without_the_network(
    guarded: Guarded, generator_folder: Path, tmp_path: Path
) -> None:
    """Reading, tokenizing and building a checkpoint that lies here asks no hub, although none is told to be offline."""
    (tmp_path / "text.txt").write_text("the cat sat on the mat " * 60, encoding="utf-8")
    (tmp_path / "weighbridge.toml").write_text(
        f'[workload]\nname = "g"\ntask = "text-generation"\nmodel = "{generator_folder}"\ndata = "text.txt"\nwindow = 16\n'
        '[[variants]]\nbackend = "torch"\nbaseline = true\n'
        "[measure]\nprompt_lengths = [4]\nmax_new_tokens = 4\n",
        encoding="utf-8",
    )
    done = guarded.run(*COMMAND, "build", "--out", "built", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "built" / "torch-fp32" / "model.safetensors").is_file()
    assert not guarded.log.exists(), guarded.log.read_text(encoding="utf-8")


class Tags(html.parser.HTMLParser):
    """The tags of a page and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_markup_in_labels_names_and_slices_stays_text_on_the_page(hostile: HostileRun) -> None:
    """The page has its one script, and shows the markup of a label as text."""
    page = Tags((hostile.folder / "report.html").read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1
    assert MARKUP in page.text


def test_the_summary_and_the_tables_are_whole(hostile: HostileRun) -> None:
    """Markdown has no raw markup, unseen character, mention or broken table; no cell of the CSV file is a formula; JUnit parses."""
    summary = (hostile.folder / "summary.md").read_text(encoding="utf-8")
    assert "<script>" not in summary
    assert "\x1b" not in summary
    assert not re.search(r"@(?=\w)", summary)
    for table in re.findall(r"(?:^\|.*\n)+", summary, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    rows = list(csv.reader(io.StringIO((hostile.folder / "results.csv").read_text(encoding="utf-8"), newline="")))
    assert any("group=+1" in cell for row in rows for cell in row)
    assert len({len(row) for row in rows}) == 1
    for cell in (cell for row in rows for cell in row):
        assert not re.match(r"[=+@\t\r-]", cell) or re.fullmatch(r"-?[\d.e+-]+", cell), cell
    ET.parse(hostile.folder / "junit.xml")  # noqa: S314 - our own file


def test_children_are_told_to_send_no_telemetry() -> None:
    """The hub's client, which only children use, finds its telemetry switched off."""
    assert child_environment(1)["HF_HUB_DISABLE_TELEMETRY"] == "1"
