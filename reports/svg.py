"""Vega-Lite specs to SVG, drawn in a child process: the renderer takes 100 MB that this process need not hold."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

from ..optimize.errors import WorkerError

_TIMEOUT_S = 120.0


class Drawing:
    """A child process that draws; started early, so that it warms up while the specs are made."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-m", f"{__package__}.vega"]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def draw(self, specs: Sequence[dict[str, Any]]) -> list[str]:
        """Draw every spec and end the child.

        Raises:
            WorkerError: the child crashed, hung, or a spec could not be drawn; the text holds its last words.
        """
        try:
            output, errors = self._child.communicate(json.dumps(list(specs)).encode(), timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise WorkerError(f"the charts were not drawn within {_TIMEOUT_S:g} s; render the report again") from error
        finally:
            self.close()
        if self._child.returncode:
            lines = errors.decode(errors="replace").strip().splitlines() or [f"exit {self._child.returncode}"]
            raise WorkerError(f"the charts could not be drawn ({lines[-1]}); install vl-convert-python again")
        drawn: list[str] = json.loads(output)
        return drawn

    def close(self) -> None:
        """End the child where it still runs."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.communicate()


def accessible(svg: str, identifier: str, title: str, description: str) -> Markup:
    """The drawing as an image with a name and a description, sized by the page instead of by itself."""
    opening = re.match(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", svg)
    if opening is None:
        raise WorkerError("the charts could not be drawn: the renderer gave no SVG")
    names = f'aria-labelledby="{identifier}-title {identifier}-desc"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" {names} {opening[1]}>'
    name = f'<title id="{identifier}-title">{escape(title)}</title>'
    told = f'<desc id="{identifier}-desc">{escape(description)}</desc>'
    return Markup(head + name + told + svg[opening.end() :])  # noqa: S704 - Vega escapes its texts, and ours are here
