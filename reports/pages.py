"""A page from a template: one self-contained file, everything escaped, no script but the small one of ours."""

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

from markupsafe import Markup

from . import facts, words
from .verdicts import STANDINGS

_TEMPLATES = Path(__file__).parent / "templates"


def page(template: str, **values: Any) -> str:
    """Return the page that a template makes of the values, with style and script put in, and the script's hash in its policy."""
    style, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    text: str = (
        _environment()
        .get_template(template)
        .render(
            values,
            style=Markup(style),  # noqa: S704 - a file of ours
            script=Markup(script),  # noqa: S704 - a file of ours
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return text


@functools.cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "weights": facts.weights,
        "operators": facts.operators,
        "shape": words.shape,
        "significant": words.significant,
        "moment": words.moment,
        "signed": "{:+,}".format,
    }
    environment.globals |= {"STANDINGS": STANDINGS, "title": words.title}
    return environment
