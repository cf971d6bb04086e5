"""The table of docs/workloads.md: every built-in workload with its default variants, weighed by ordinary runs.

Run: python bench/scripts/workload_table.py [--only NAME ...] [--max-seconds N] [--write]
     python bench/scripts/workload_table.py --train [--only NAME ...]     (seconds that each takes to be made from nothing)

A run that is finished stays in its folder (--runs) and is read from there the next time: the script can be stopped and gone on
with. It fails where a workload could not be weighed, or its baseline is not above its accuracy floor.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

from weighbridge.bench.cli.console import ConsoleReporter
from weighbridge.bench.config import parse_config
from weighbridge.bench.results import Results, VariantRow, read_results
from weighbridge.bench.running import Options, run
from weighbridge.bench.workloads import builtin, builtin_names
from weighbridge.bench.workloads.builtin import Request
from weighbridge.optimize.cache import cache_root
from weighbridge.optimize.errors import WeighbridgeError
from weighbridge.optimize.files import write_text
from weighbridge.reports import words
from weighbridge.reports.findings import Findings
from weighbridge.reports.markdown import escape

PAGE = Path(__file__).resolve().parents[2] / "docs" / "workloads.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEAD = "| workload | variant | size | latency / baseline | quality / change | status, notes |"
RULE = "|---|---|---:|---:|---:|---|"


def weighed(name: str, runs: Path, seconds: float) -> Results:
    """The results of a workload's run: read where it is finished, else run now."""
    folder = runs / name
    if (folder / "results.json").is_file():
        return read_results(folder)
    partial = runs / f"{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    config = parse_config({"workload": {"name": name, "builtin": name}, "measure": {"threads": 1}}, name)
    run(config, Options(out=partial, max_seconds=seconds, inconclusive="warn"), ConsoleReporter())
    partial.rename(folder)
    return read_results(folder)


def rows(name: str, results: Results) -> Iterator[str]:
    """A line of the table for each variant, the baseline's first."""
    findings = Findings(results)
    for row in sorted(results.variants, key=lambda each: not each.baseline):
        size = words.megabytes(row.bytes) if row.bytes is not None else ""
        cells = (name, row.name, size, speed(row, findings), quality(row, findings), remark(row))
        yield f"| {' | '.join(escape(cell) for cell in cells)} |"


def speed(row: VariantRow, findings: Findings) -> str:
    """The latency's ratio to the baseline with its interval; of the baseline itself its milliseconds."""
    shape = next(iter(findings.shapes), {})
    if row.baseline:
        found = findings.measurement(row.name, findings.speed, shape)
        return words.quantity(findings.speed, found.value) if found is not None and found.value is not None else ""
    ratio = findings.comparison(row.name, findings.speed, shape, "ratio")
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio is not None else ""


def quality(row: VariantRow, findings: Findings) -> str:
    """How accuracy (perplexity) changed, with its interval; of the baseline itself its value."""
    if findings.quality is None:
        return ""
    if row.baseline:
        found = findings.measurement(row.name, findings.quality, {})
        value = found.value if found is not None else None
        return f"{findings.quality} {words.quantity(findings.quality, value)}" if value is not None else ""
    kind = "ratio" if findings.quality == "perplexity" else "difference"
    changed = findings.comparison(row.name, findings.quality, {}, kind)  # type: ignore[arg-type]
    return f"{words.change(changed)} {words.change_bounds(changed)}" if changed is not None else ""


def remark(row: VariantRow) -> str:
    """What a reader should know of the variant: why it is not there, or what to expect of it."""
    if row.status != "ok":
        return f"{row.status}: {row.reason}"
    return "baseline" if row.baseline else row.note


def below_floor(name: str, results: Results) -> str:
    """The sentence that a baseline is not above its workload's accuracy floor; empty where it is."""
    floor = builtin(name).accuracy_floor
    found = Findings(results).measurement(results.baseline.name, "accuracy", {}) if floor else None
    value = found.value if found is not None else None
    if not floor or (value is not None and value > floor):
        return ""
    return f"{name}: accuracy {'unknown' if value is None else f'{value:.3f}'} is not above its floor {floor:g}"


def caption(measured: Sequence[Results]) -> str:
    """The command, the days, the machines, the versions, and what the intervals hold."""
    environments = [each.environment for each in measured]
    days = sorted({str(each["date"])[:10] for each in environments})
    machines = sorted({str(each["machine"]) for each in environments})
    versions = environments[-1]["versions"]
    libraries = ", ".join(f"{name} {versions[name]}" for name in ("torch", "onnxruntime") if name in versions)
    levels = sorted({each.confidence for results in measured for each in results.comparisons})
    seconds = sorted({each.config["measure"]["max_seconds"] for each in measured})
    budget = " and ".join(f"--max-seconds {each:g}" for each in seconds)
    held = f" Intervals hold at {100 * levels[0]:.1f} % each." if levels else ""
    return (
        f"Printed by `python bench/scripts/workload_table.py {budget} --write` on {' and '.join(dict.fromkeys((days[0], days[-1])))}, "
        f"{'; '.join(machines)}, one thread, batch 1, {libraries}.{held}"
    )


def table(measured: dict[str, Results]) -> str:
    """The whole table in Markdown, with its caption."""
    lines = [line for name, results in measured.items() for line in rows(name, results)]
    return "\n".join([caption(list(measured.values())), "", HEAD, RULE, *lines])


def between_marks(page: str, text: str) -> str:
    """The page with the text in the place of what stood between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"the page lacks {BEGIN} and {END}, in this order")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def seconds_to_make(name: str) -> float:
    """Processor seconds of making a workload with an empty cache; the texts of docstrings are read before."""
    kept = cache_root() / "docstrings"
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {"WEIGHBRIDGE_CACHE": folder}):
        if kept.is_dir():
            shutil.copytree(kept, Path(folder) / "docstrings")
        start = time.process_time()
        builtin(name).make(Request(0), lambda share, text: print(f"{name} {share:.0%}, {text}", end="\r"))
        return time.process_time() - start


def main() -> None:
    """Weigh what is asked for and print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(builtin_names()), help="names of workloads; default: all")
    parser.add_argument("--max-seconds", type=float, default=60, help="sampling time of each run")
    parser.add_argument("--runs", type=Path, default=Path("runs") / "workload-table", help="where the runs are kept")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    parser.add_argument("--train", action="store_true", help="print how long each takes to be made from nothing")
    chosen = parser.parse_args()
    if chosen.train:
        for name in chosen.only:
            print(f"{name}: {seconds_to_make(name):.0f} processor seconds{' ' * 40}")
        return
    chosen.runs.mkdir(parents=True, exist_ok=True)
    measured, troubles = {}, []
    for name in chosen.only:
        try:
            measured[name] = weighed(name, chosen.runs, chosen.max_seconds)
        except WeighbridgeError as error:
            troubles.append(f"{name}: {error}")
    troubles += filter(None, (below_floor(name, results) for name, results in measured.items()))
    if measured and chosen.write:
        write_text(PAGE, between_marks(PAGE.read_text(encoding="utf-8"), table(measured)))
    elif measured:
        print(table(measured))
    sys.exit("\n".join(troubles) or 0)


if __name__ == "__main__":
    main()
