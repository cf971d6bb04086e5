"""Damage every kind of file that Weighbridge reads, again and again: is each taken, or refused in a sentence?

Run: python bench/scripts/fuzz.py [--cases 2400] [--seed 0] [--target NAME ...]     (prints a table; exit 1 where a case was a finding)

A case is told by its target, its number and the seed, and can be had again: `--target config --only 17`. The cases of a target
run in a process of their own, as models and data do in a run. A finding is an exception that is none of ours, an error without
words, no answer within the time limit, or the end of the process; the cases behind it go on in a new one. The files and who
reads them are in fuzz_targets.py and fuzz_runs.py, the ways of damage in fuzz_damage.py.
"""

import argparse
import contextlib
import io
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from weighbridge.optimize.errors import WeighbridgeError

sys.path.append(str(Path(__file__).parent))  # the scripts beside this one, whose folder `python -P` leaves out

import fuzz_runs
import fuzz_targets
from fuzz_damage import damage
from fuzz_targets import Target

TARGETS = {target.name: target for target in (*fuzz_targets.TARGETS, *fuzz_runs.TARGETS)}

TIME_LIMIT_S = 60.0
"""For one case, and for writing the sound files that a target begins with."""


@dataclass(frozen=True)
class Case:
    """What became of one damaged file: taken, refused, or a finding; `words` are the sentence or the traceback."""

    target: str
    number: int
    outcome: str
    words: str = ""


def one(target: Target, number: int, seed: int, sound: Path) -> Case:
    """Damage a copy of the sound files in the way of this number, and have it taken."""
    rnd = random.Random(f"{seed}/{target.name}/{number}")  # noqa: S311 - the same damage again, no secret
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "case"
        shutil.copytree(sound, folder)
        path = damage(folder, target.pattern, rnd)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                target.take(folder, path)
        except WeighbridgeError as error:
            words = str(error)
            fine = len(words.split()) > 2 and "Traceback" not in words  # noqa: PLR2004 - fewer words are no sentence
            return Case(target.name, number, "refused" if fine else "finding", words[:300])
        except Exception:  # noqa: BLE001 - just what is looked for
            return Case(target.name, number, "finding", traceback.format_exc())
    return Case(target.name, number, "taken")


def serve(target: Target, numbers: Sequence[int], seed: int) -> None:
    """The child: write the sound files, then a line of JSON a case."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print
    with tempfile.TemporaryDirectory() as name:
        sound = Path(name) / "sound"
        sound.mkdir()
        target.write(sound)
        need_taken(target, sound)
        print("{}", file=answers, flush=True)
        for number in numbers:
            print(json.dumps(asdict(one(target, number, seed, sound))), file=answers, flush=True)


def need_taken(target: Target, sound: Path) -> None:
    """Have a sound file of each kind taken: what refuses those too would find nothing."""
    kinds = {path.suffix: path for path in sorted(sound.rglob(target.pattern)) if path.is_file()}
    for path in kinds.values():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "case"
            shutil.copytree(sound, folder)
            target.take(folder, folder / path.relative_to(sound))


def watched(target: str, numbers: Sequence[int], seed: int) -> Iterator[Case]:
    """Every case of a target from children, begun anew behind one that crashes or hangs."""
    left = list(numbers)
    while left:
        command = command_of(target, left, seed)
        with (
            tempfile.TemporaryDirectory() as name,
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=_environment(name)) as child,
        ):
            lines = _lines(child)
            if next(lines, None) is None:
                raise RuntimeError(f"the sound files of {target} are not taken: {_last_words(errors)}")
            for line in lines:
                yield Case(**json.loads(line))
                left.pop(0)
            ended = child.poll()
            child.kill()
            if left:
                how = f"no answer within {TIME_LIMIT_S:g} s" if ended is None else f"the process ended with {ended}"
                yield Case(target, left.pop(0), "finding", f"{how}: {_last_words(errors)}")


def command_of(target: str, numbers: Sequence[int], seed: int) -> list[str]:
    """What starts a child that serves these cases."""
    return [sys.executable, "-P", __file__, "--serve", target, "--seed", str(seed), "--only", *map(str, numbers)]


def _environment(folder: str) -> dict[str, str]:
    """The child's: whatever it leaves behind when it is killed goes with the folder."""
    return {**os.environ, "TMPDIR": folder, "WEIGHBRIDGE_CACHE": f"{folder}/cache", "PYTHONWARNINGS": "ignore"}


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read().decode(errors="replace")[-2000:]


def _lines(child: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    """The child's lines, until it ends or one takes too long."""
    stream, unread = child.stdout, b""
    if stream is None:
        return
    while select.select([stream], [], [], TIME_LIMIT_S)[0]:
        piece = os.read(stream.fileno(), 1 << 16)
        if not piece:
            child.wait()
            return
        unread += piece
        while b"\n" in unread:
            line, _, unread = unread.partition(b"\n")
            yield line


def shares(cases: int, targets: Sequence[str]) -> dict[str, range]:
    """The numbers of the cases of each target: its share of them, by weight."""
    whole = sum(TARGETS[name].weight for name in targets)
    return {name: range(-(-cases * TARGETS[name].weight // whole)) for name in targets}


def table(cases: Iterable[Case]) -> str:
    """The counts of each target as a Markdown table."""
    counts: dict[str, Counter[str]] = {}
    for case in cases:
        counts.setdefault(case.target, Counter())[case.outcome] += 1
    rows = [[name, *(count[each] for each in ("taken", "refused", "finding"))] for name, count in counts.items()]
    totals = ["all", *(sum(row[place] for row in rows) for place in (1, 2, 3))]
    lines = ["| files | cases | taken all the same | refused in a sentence | findings |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {sum(numbers)} | {' | '.join(map(str, numbers))} |" for name, *numbers in [*rows, totals]]
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", nargs="*", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--only", nargs="*", type=int, help="numbers of cases")
    parser.add_argument("--serve", choices=list(TARGETS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(TARGETS[asked.serve], asked.only, asked.seed)
        return
    found = []
    for name, numbers in shares(asked.cases, asked.target).items():
        for case in watched(name, asked.only or numbers, asked.seed):
            found.append(case)
            if case.outcome == "finding":
                print(f"{case.target} {case.number}: {case.words}", flush=True)
    print(table(found))
    sys.exit(any(case.outcome == "finding" for case in found))


if __name__ == "__main__":
    main()
