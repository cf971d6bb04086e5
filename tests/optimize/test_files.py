"""Files and folders appear whole under their final names, or not at all."""

import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.optimize.files import (
    appearing,
    holding,
    remove_partial,
    replacing,
    sha256_of_file,
    sha256_of_json,
    work_folder,
    write_json,
    write_text,
)


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    """The hash equals hashlib's over the whole content, for a file longer than a buffer too."""
    data = bytes(range(256)) * 4096
    (tmp_path / "x").write_bytes(data)
    assert sha256_of_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=4))
def test_the_hash_of_data_does_not_know_the_order_of_keys(data: dict[str, object]) -> None:
    """Two dictionaries that are equal have the same hash, in whatever order they were filled."""
    assert sha256_of_json(data) == sha256_of_json(dict(reversed(data.items())))


def test_the_hash_of_data_tells_values_apart() -> None:
    """A number and its text do not hash alike."""
    assert sha256_of_json({"a": 1}) != sha256_of_json({"a": "1"})


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """Where writing raises, the file keeps its old content and nothing is left beside it."""
    path = tmp_path / "kept.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError, match="disk"), replacing(path) as partial:
        partial.write_text("half", encoding="utf-8")
        raise RuntimeError("disk full")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_in_one_move(tmp_path: Path) -> None:
    """Until the block ends the old content is there; then the new one, readable by all."""
    path = tmp_path / "deep" / "file.txt"
    with replacing(path) as partial:
        partial.write_text("new", encoding="utf-8")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "new"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failed_folder_does_not_appear(tmp_path: Path) -> None:
    """Where filling a folder raises, neither it nor its temporary twin is left."""
    with pytest.raises(RuntimeError, match="no"), appearing(tmp_path / "folder") as partial:
        (partial / "file").write_text("x", encoding="utf-8")
        raise RuntimeError("no")
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_folders_stays(tmp_path: Path) -> None:
    """Of two writers of one folder the first wins, and the second neither fails nor leaves a trace."""
    folder = tmp_path / "folder"
    with appearing(folder) as second:
        (second / "who").write_text("second", encoding="utf-8")
        with appearing(folder) as first:
            (first / "who").write_text("first", encoding="utf-8")
    assert (folder / "who").read_text(encoding="utf-8") == "first"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_in_the_way_of_nothing_but_a_file_is_an_error(tmp_path: Path) -> None:
    """A file that has the folder's name is not taken for the folder."""
    (tmp_path / "folder").write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError, match="folder"), appearing(tmp_path / "folder"):
        pass


def test_text_is_written_as_utf8_with_unix_line_ends(tmp_path: Path) -> None:
    """Every machine writes the same bytes."""
    write_text(tmp_path / "t", "ä\nb\n")
    assert (tmp_path / "t").read_bytes() == "ä\nb\n".encode()


def test_json_refuses_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    """NaN is refused, and then no file appears."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_json_reads_back(tmp_path: Path) -> None:
    """What was written is read back equal."""
    write_json(tmp_path / "x.json", {"a": [1, 2.5, None, "ü"]})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"a": [1, 2.5, None, "ü"]}


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    """While a file is replaced a hundred times, every reader sees one of the whole contents."""
    path = tmp_path / "x"
    write_text(path, "0" * 10_000)
    seen: set[str] = set()

    def read() -> None:
        for _ in range(200):
            seen.add(path.read_text(encoding="utf-8"))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(100):
        write_text(path, str(turn % 10) * 10_000)
    reader.join()
    assert all(text == text[0] * 10_000 for text in seen)


def test_half_of_a_pair_is_written_as_its_escape(tmp_path: Path) -> None:
    """JSON may hold what UTF-8 cannot: it comes back equal."""
    write_json(tmp_path / "a.json", {"name": "a\ud800b"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "a\ud800b"}


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    """While one holds a folder another is refused; afterwards it is free, and nothing was written in it."""
    with holding(tmp_path):
        with pytest.raises(BlockingIOError), holding(tmp_path):
            pass
        with pytest.raises(BlockingIOError), holding(tmp_path):
            pass
    with holding(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_work_folder_is_there_for_its_block_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies in the system's temporary folder and is gone with all in it, however the block ends."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="ended"), work_folder() as folder:
        assert folder.parent == tmp_path
        (folder / "deep").mkdir()
        raise RuntimeError("ended")
    assert list(tmp_path.iterdir()) == []


def test_work_folders_of_killed_processes_are_removed_by_the_next(tmp_path: Path) -> None:
    """Of three work folders the killed process's goes; the living one's and a folder that only looks alike stay."""
    code = "from weighbridge.optimize.files import work_folder\nwith work_folder() as f: print(f, flush=True); input()"
    environment = {"TMPDIR": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    (tmp_path / "weighbridge-work-of-mine").mkdir()
    pair = [subprocess.Popen([sys.executable, "-P", "-c", code], env=environment, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    killed, living = (Path(process.stdout.readline().strip()) for process in pair)
    pair[0].send_signal(signal.SIGKILL)
    pair[0].communicate()
    assert killed.is_dir()
    pair[1].communicate(input="\n")
    assert not killed.exists()
    assert not living.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["weighbridge-work-of-mine"]


def test_only_what_was_being_written_is_partial(tmp_path: Path) -> None:
    """Files and folders under temporary names go, at any depth; those of others, and whole ones, stay."""
    for name in ("a/.x.json.abc.part", "a/b/.y.abc.part/inner", "a/whole.json", "a/mine.part"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", encoding="utf-8")
    remove_partial(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "a/mine.part",
        "a/whole.json",
    ]
