"""The child of svg.py: reads a JSON list of Vega-Lite specs from standard input, writes a JSON list of SVG texts."""

import json
import sys

_WARM_UP = {"data": {"values": [{"x": 1}]}, "mark": "point", "encoding": {"x": {"field": "x", "type": "quantitative"}}}


def main() -> None:
    """Draw what standard input asks for; nothing is fetched from anywhere."""
    import vl_convert

    vl_convert.vegalite_to_svg(_WARM_UP, allowed_base_urls=[])
    specs = json.load(sys.stdin)
    drawn = [vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]) for spec in specs]
    json.dump(drawn, sys.stdout)


if __name__ == "__main__":
    main()
