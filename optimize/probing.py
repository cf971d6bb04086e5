"""Ask in a child process what an accelerator's library can do here: a missing library may kill the process that loads it."""

import subprocess
import sys
from dataclasses import dataclass

SECONDS = 60


@dataclass(frozen=True)
class Probe:
    """How a child process ended, the first line that it printed, and what it wrote to standard error."""

    status: int
    answer: str
    errors: str

    @property
    def last_words(self) -> str:
        """The last line of its errors; its status where there is none."""
        lines = self.errors.strip().splitlines()
        return lines[-1][:300] if lines else f"status {self.status}"


def probe(code: str) -> Probe:
    """Run Python code in a child process of this interpreter; one that does not end within a minute is given up."""
    command = [sys.executable, "-P", "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Probe(1, "", f"no answer in {SECONDS} s")
    return Probe(done.returncode, done.stdout.partition("\n")[0], done.stderr)
