"""No usage statistics: openvino and nncf find no sender, and leave nothing in the user's home."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
from weighbridge.optimize.no_telemetry import without_telemetry

_USE_BOTH = """
    import socket, sys
    from pathlib import Path

    import numpy, onnx
    from onnx import TensorProto, helper

    {switch}

    def refuse(*arguments, **options):
        raise AssertionError("a connection was opened")

    socket.socket.connect = refuse
    socket.getaddrinfo = refuse
    weight = onnx.numpy_helper.from_array(numpy.ones((4, 4), numpy.float32), "w")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", values[:1], values[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    core = openvino.Core()
    openvino.save_model(core.read_model(model.SerializeToString()), "model.xml")
    nncf.quantize(model, nncf.Dataset([{{"x": numpy.ones((1, 4), numpy.float32)}}]), subset_size=1)
    print(sorted(name for name in sys.modules if name.split(".")[0] == "openvino_telemetry"))
"""
_OURS = """from weighbridge.optimize.no_telemetry import without_telemetry
    openvino, nncf = without_telemetry("openvino"), without_telemetry("nncf")"""
_THEIRS = "import openvino, nncf"

needs_both = pytest.mark.skipif(
    importlib.util.find_spec("nncf") is None or importlib.util.find_spec("openvino_telemetry") is None,
    reason="nncf and its telemetry are not installed: pip install 'weighbridge[openvino]'",
)


def used_in_a_fresh_process(home: Path, switch: str) -> tuple[str, list[str]]:
    """The telemetry modules that were loaded, and what lies in the home afterwards."""
    home.mkdir()
    script = textwrap.dedent(_USE_BOTH).format(switch=textwrap.dedent(switch.replace("\n    ", "\n")))
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home.parent / "cache")}
    for name in ("CI", "NNCF_CI", "NNCF_DEV"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=home.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1], sorted(path.name for path in home.iterdir())


@needs_both
def test_no_sender_is_made_and_nothing_left_in_the_home(tmp_path: Path) -> None:
    """Converting and quantizing load no module of the telemetry, write no client id, and open no connection."""
    assert used_in_a_fresh_process(tmp_path / "home", _OURS) == ("[]", [])


@needs_both
def test_the_libraries_alone_would_make_one(tmp_path: Path) -> None:
    """Imported plainly, the same libraries load the telemetry and write a client id: the test above can fail."""
    loaded, left = used_in_a_fresh_process(tmp_path / "home", _THEIRS)
    assert "openvino_telemetry.utils.sender" in loaded
    assert left == ["intel"]


def test_what_was_loaded_before_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library finds no telemetry while it is imported; afterwards the modules that were there are there again."""
    (tmp_path / "counting_library.py").write_text(
        "try:\n    import openvino_telemetry\n    FOUND = True\nexcept ImportError:\n    FOUND = False\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = ModuleType("openvino_telemetry")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", before)
    assert without_telemetry("counting_library").FOUND is False
    assert sys.modules["openvino_telemetry"] is before
    monkeypatch.delitem(sys.modules, "counting_library")


def test_a_library_that_is_not_there_leaves_all_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the import fails the error is the import's own, and the telemetry is not hidden from others any longer."""
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        without_telemetry("no_such_library")
    assert "openvino_telemetry" not in sys.modules
