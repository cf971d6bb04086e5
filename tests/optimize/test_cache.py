"""The cache keeps whole artifacts only, notices damage, and lets one process build."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from weighbridge.optimize.backends.base import Audit
from weighbridge.optimize.backends.fake_backend import Behaviour, signature_of
from weighbridge.optimize.cache import ArtifactCache, cache_root, in_use
from weighbridge.optimize.errors import BuildError
from weighbridge.optimize.files import holding, sha256_of_file, write_json
from weighbridge.optimize.variant import MANIFEST, Manifest

KEY, OTHER = "0" * 31 + "a", "0" * 31 + "b"


def add(cache: ArtifactCache, key: str, content: str = "{}") -> Path:
    """Put a small fake variant under a key."""
    with cache.adding(key) as folder:
        file = folder / "model.fake.json"
        file.write_text(content, encoding="utf-8")
        manifest = Manifest(
            backend="fake",
            precision="fp32",
            recipe={},
            source={},
            calibration_sha256=None,
            tools={},
            files=(file.name,),
            sha256={file.name: sha256_of_file(file)},
            bytes=2,
            parameters=0,
            sparsity=0.0,
            build_seconds=0.0,
            signature=signature_of(Behaviour()),
            steps=(),
            parity=None,
            audit=Audit(ok=True),
        )
        write_json(folder / MANIFEST, manifest.to_dict())
    return cache.root / key


def test_what_was_added_is_found(tmp_path: Path) -> None:
    """A variant is found under its key, and only there."""
    cache = ArtifactCache(tmp_path)
    folder = add(cache, KEY)
    found = cache.get(KEY)
    assert found is not None
    assert found.folder == folder
    assert cache.get(OTHER) is None


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("model.fake.json", "{} ", "does not have the hash"),
        ("model.fake.json", None, "is missing"),
        (MANIFEST, '{"schema_version": 1', "not a readable manifest"),
        (MANIFEST, None, "not a readable manifest"),
        (MANIFEST, '{"schema_version": 999}', "schema version 999"),
    ],
)
def test_a_damaged_variant_is_removed_and_said_to_be(
    tmp_path: Path, file: str, content: str | None, words: str
) -> None:
    """Changed, cut or missing files are noticed by hash; the variant is gone, and the reason is told."""
    cache = ArtifactCache(tmp_path)
    path = add(cache, KEY) / file
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    told: list[str] = []
    assert cache.get(KEY, told.append) is None
    assert not (tmp_path / KEY).exists()
    assert len(told) == 1
    assert words in told[0]


def test_a_build_that_raises_leaves_nothing(tmp_path: Path) -> None:
    """Where building raises, no folder appears under the key or beside it."""
    cache = ArtifactCache(tmp_path)
    with pytest.raises(RuntimeError, match="broken"), cache.adding(KEY) as folder:
        (folder / "half").write_text("x", encoding="utf-8")
        raise RuntimeError("broken")
    assert list(tmp_path.iterdir()) == []


def test_verify_names_the_damaged_only(tmp_path: Path) -> None:
    """Verifying answers for every key: nothing for whole ones, the reason for damaged ones; it removes none."""
    cache = ArtifactCache(tmp_path)
    add(cache, KEY)
    (add(cache, OTHER) / "model.fake.json").write_text("changed", encoding="utf-8")
    answer = cache.verify()
    assert answer[KEY] == ""
    assert "does not have the hash" in answer[OTHER]
    assert (tmp_path / OTHER).is_dir()


def test_variants_lists_the_newest_first(tmp_path: Path) -> None:
    """Every readable variant is listed, the newest first; what cannot be read is left out."""
    cache = ArtifactCache(tmp_path)
    os.utime(add(cache, KEY), (1, 1))
    os.utime(add(cache, OTHER), (2, 2))
    (tmp_path / ("f" * 32)).mkdir()
    assert [variant.folder.name for variant in cache.variants()] == [OTHER, KEY]


def test_an_empty_cache_has_nothing(tmp_path: Path) -> None:
    """A cache whose folder does not exist yet lists, verifies and clears nothing."""
    cache = ArtifactCache(tmp_path / "absent")
    assert (cache.variants(), cache.verify(), cache.clear()) == ((), {}, 0)


def test_clear_removes_artifacts_and_leftovers_but_no_foreign_files(tmp_path: Path) -> None:
    """Clearing counts and removes variants and interrupted builds, and touches nothing that is not the cache's."""
    cache = ArtifactCache(tmp_path)
    add(cache, KEY)
    (tmp_path / f".{OTHER}.xyz.part").mkdir()
    (tmp_path / "notes").mkdir()
    assert cache.clear() == 1
    assert not (tmp_path / KEY).exists()
    assert not (tmp_path / f".{OTHER}.xyz.part").exists()
    assert (tmp_path / "notes").is_dir()


def test_clear_leaves_alone_what_is_being_built(tmp_path: Path) -> None:
    """The temporary folder of a build whose lock is held stays."""
    cache = ArtifactCache(tmp_path)
    (tmp_path / f".{KEY}.xyz.part").mkdir()
    with cache.locked(KEY):
        cache.clear()
    assert (tmp_path / f".{KEY}.xyz.part").is_dir()


def test_clear_leaves_alone_what_a_run_uses(tmp_path: Path) -> None:
    """An artifact that is held, by however many, stays and is not counted; afterwards it goes."""
    cache = ArtifactCache(tmp_path)
    folder = add(cache, KEY)
    with in_use(folder), in_use(folder):
        assert cache.clear() == 0
    assert cache.verify() == {KEY: ""}
    assert cache.clear() == 1


def test_what_was_cleared_away_cannot_be_used(tmp_path: Path) -> None:
    """An artifact that another process is removing, and one that is gone, are refused with what to do."""
    folder = add(ArtifactCache(tmp_path), KEY)
    words = (
        f"{KEY} was cleared from the cache before it could be used; start again, and do not clear the cache meanwhile"
    )
    with holding(folder), pytest.raises(BuildError, match=words), in_use(folder):
        pass
    ArtifactCache(tmp_path).clear()
    with pytest.raises(BuildError, match=words), in_use(folder):
        pass


def test_two_clears_at_once_count_an_artifact_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another clear has removed since the folders were listed is passed over; what is still there goes."""
    cache = ArtifactCache(tmp_path)
    gone, left = add(cache, KEY), add(cache, OTHER)
    ArtifactCache(tmp_path).clear()
    add(cache, OTHER)
    monkeypatch.setattr(cache, "_folders", lambda: (gone, left))
    assert cache.clear() == 1
    assert not left.exists()


def test_whole_artifacts_under_each_others_keys_are_noticed(tmp_path: Path) -> None:
    """Two folders that were swapped have every hash right and are the wrong variants all the same."""
    cache = ArtifactCache(tmp_path)
    aside = add(cache, KEY).rename(tmp_path / "aside")
    add(cache, OTHER).rename(tmp_path / KEY)
    aside.rename(tmp_path / OTHER)
    assert "was not sealed under its key" in cache.verify()[KEY]
    assert cache.get(KEY) is None
    assert not (tmp_path / KEY).exists()


@pytest.mark.parametrize("name", ["model.fake.json", MANIFEST, "seal"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "swapped"])
def test_every_damage_to_a_file_is_noticed(tmp_path: Path, name: str, damage: str) -> None:
    """The artifact, its manifest and its seal, cut short, with one bit flipped, or taken from another variant."""
    cache = ArtifactCache(tmp_path)
    path, other = add(cache, KEY) / name, add(cache, OTHER, "{ }") / name
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "truncated": whole[:middle],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "swapped": other.read_bytes(),
    }
    path.write_bytes(damaged[damage])
    assert cache.verify()[KEY]
    assert cache.get(KEY) is None
    assert cache.get(OTHER) is not None


def test_what_a_killed_build_left_goes_with_the_next_build(tmp_path: Path) -> None:
    """The half-built folder of a key is removed by whoever builds that key; another key's, perhaps under way, stays."""
    cache = ArtifactCache(tmp_path)
    for key in (KEY, OTHER):
        (tmp_path / f".{key}.xyz.part").mkdir()
    add(cache, KEY)
    assert not (tmp_path / f".{KEY}.xyz.part").exists()
    assert (tmp_path / f".{OTHER}.xyz.part").is_dir()


def test_two_processes_build_once(tmp_path: Path) -> None:
    """Of two processes that want one key at the same time one builds, and the other waits, says so and finds it."""
    code = f"""
        import sys, time
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_cache import add
        from weighbridge.optimize.cache import ArtifactCache
        cache = ArtifactCache(Path({str(tmp_path)!r}))
        sys.stdin.readline()
        with cache.locked({KEY!r}, print):
            if cache.get({KEY!r}) is None:
                time.sleep(0.5)
                add(cache, {KEY!r})
                print("built")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    pair = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in pair:
        print("go", file=process.stdin, flush=True)
    said = [process.communicate(timeout=60)[0].split("\n") for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    lines = sorted(line for each in said for line in each if line)
    assert lines in (["built"], ["built", "waiting for another process that builds the same variant"])


def test_the_root_is_the_users_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$WEIGHBRIDGE_CACHE names the cache folder; artifacts lie in a folder of their own in it."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path))
    assert ArtifactCache().root == tmp_path / "artifacts"
    monkeypatch.delenv("WEIGHBRIDGE_CACHE")
    assert cache_root().name == "weighbridge"
