"""Write requirements-hashed.txt: every version of constraints.txt with the SHA-256 of its files.

Those are all that PyPI has, but of torch the CPU build alone: PyPI's own for Linux asks for a dozen CUDA packages that are not pinned.

Run: python docs/hashes.py     (asks PyPI through `uv`: pip install uv)

pip takes no hashes from a constraints file for packages that are asked for without one, as our own wheel is. So the hashes stand in
a file of requirements of its own, which is installed first, whole and without looking for more:

    pip install --require-hashes --no-deps --extra-index-url https://download.pytorch.org/whl/cpu -r requirements-hashed.txt
    pip install --no-deps .
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HASHED = ROOT / "requirements-hashed.txt"
HEADER = """# Every version of constraints.txt, each with the SHA-256 of its files on PyPI, of torch that of its CPU build; written by
# `python docs/hashes.py`. Install it before Weighbridge; SECURITY.md says how.
"""
CPU_BUILDS = {
    "torch==2.13.0": {
        "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
    },
}
"""Wheels without CUDA, which https://download.pytorch.org/whl/cpu has and PyPI has not, as `sha256sum` prints them."""


def from_pypi() -> str:
    """Requirements with their hashes, those of other systems and Pythons among them."""
    options = [
        "--no-deps",
        "--generate-hashes",
        "--universal",
        "--python-version",
        "3.11",
        "--no-header",
        "--no-annotate",
    ]
    command = ["uv", "pip", "compile", "--quiet", *options, str(ROOT / "constraints.txt")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def with_cpu_builds(text: str) -> str:
    """The same with the hashes of the CPU builds in the place of PyPI's; stops where their version is no longer the pinned one."""
    for pin, files in CPU_BUILDS.items():
        hashed = " \\\n".join([pin, *(f"    --hash=sha256:{digest}" for digest in files.values())]) + "\n"
        theirs = re.search(rf"^{re.escape(pin)} \\\n(    --hash=\S+( \\)?\n)+", text, flags=re.MULTILINE)
        if theirs is None:
            sys.exit(f"constraints.txt does not pin {pin}: bring CPU_BUILDS in docs/hashes.py up to its version")
        text = text.replace(theirs.group(), hashed)
    return text


if __name__ == "__main__":
    HASHED.write_text(HEADER + with_cpu_builds(from_pypi()), encoding="utf-8")
