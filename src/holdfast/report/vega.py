"""Vega-Lite by vl-convert: its script for pages, and charts as still pictures without a browser."""

from __future__ import annotations

import functools
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from holdfast.errors import HoldfastError
from holdfast.report.extras import report_module
from holdfast.report.figures import Figure, config

_STILL_WIDTH = 720
_SVG = "{http://www.w3.org/2000/svg}"
_ELEMENTS = frozenset(
    _SVG + name
    for name in ("svg", "g", "path", "rect", "line", "text", "tspan", "circle", "defs", "clipPath")
)
_ATTRIBUTES = frozenset(
    {
        *("version", "class", "width", "height", "viewBox", "fill", "stroke"),
        *("transform", "d", "opacity", "x", "y", "x1", "x2", "y1", "y2"),
        *("dx", "dy", "cx", "cy", "r", "id", "display", "font-family", "font-size"),
        *("font-weight", "font-style", "text-anchor", "clip-path", "stroke-width"),
        *("stroke-dasharray", "stroke-dashoffset", "stroke-linecap", "stroke-linejoin"),
        *("stroke-miterlimit", "stroke-opacity", "fill-opacity", "pointer-events"),
    }
)
_CLIP = re.compile(r"url\(#clip\d+\)")
_SURROUNDINGS = re.compile(r"(?i)url\s*\(|javascript:")


class PictureError(HoldfastError):
    """A chart could not be drawn without a browser."""


def vega_version() -> str:
    """The Vega-Lite version that pictures and pages use, as vl-convert names it."""
    versions: list[str] = report_module("vl_convert").get_vegalite_versions()
    return max(versions, key=lambda text: [int(part) for part in text.split(".")])


@functools.cache
def vega_script() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script. Takes some seconds the first time."""
    script: str = report_module("vl_convert").javascript_bundle(vl_version=vega_version())
    # In a page nothing may end the element it stands in, whatever a later version contains.
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def page_spec(figure: Figure) -> dict[str, Any]:
    """The specification as the page's script draws it, in the width of its container."""
    return {**figure.spec, "config": config(), "autosize": {"type": "fit-x", "contains": "padding"}}


def still(figure: Figure, *, index: int = 0) -> str:
    """The chart as SVG markup of known elements only, titled, safe to stand in a page.

    index: makes the ids in it unique on the page. Raises PictureError if it cannot be drawn.
    """
    spec = {**page_spec(figure), "width": _STILL_WIDTH}
    try:
        markup: str = report_module("vl_convert").vegalite_to_svg(
            json.dumps(spec), vl_version=vega_version()
        )
    except ValueError as error:
        raise PictureError(
            f"The chart {figure.title!r} could not be drawn: {str(error)[:300]}"
        ) from error
    return checked_svg(markup, label=f"{figure.title}: {figure.summary}", index=index)


def checked_svg(markup: str, *, label: str, index: int) -> str:
    """The same picture, rebuilt from the elements and attributes that charts are made of.

    What data could smuggle through a drawing library's escaping does not come out of here.
    """
    if "<!DOCTYPE" in markup or "<!ENTITY" in markup:
        raise PictureError("The picture declares entities")
    try:
        root = ET.fromstring(markup)
    except ET.ParseError as error:
        raise PictureError(f"The picture is no well-formed SVG: {error}") from error
    _restrict(root, index)
    width, height = root.get("width", "1"), root.get("height", "1")
    root.set("viewBox", f"0 0 {width} {height}")
    root.set("class", "still")
    root.set("role", "img")
    root.set("aria-label", label)
    ET.register_namespace("", _SVG[1:-1])
    return ET.tostring(root, encoding="unicode")


def _restrict(element: ET.Element, index: int) -> None:
    for child in list(element):
        if child.tag in _ELEMENTS:
            _restrict(child, index)
        else:
            element.remove(child)
    for name, value in list(element.attrib.items()):
        changed = _attribute(name, value, index)
        if changed is None:
            del element.attrib[name]
        else:
            element.set(name, changed)


def _attribute(name: str, value: str, index: int) -> str | None:
    """The attribute's value for the page; None if it may not stand there."""
    if name not in _ATTRIBUTES:
        return None
    if name == "id":
        return f"f{index}-{value}"
    if name == "clip-path" and _CLIP.fullmatch(value):
        return value.replace("#", f"#f{index}-")
    if _SURROUNDINGS.search(value):
        return None
    return value


def specs_by_id(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """What the page's script draws, by the id of its place."""
    return {name: page_spec(figure) for name, figure in figures.items()}
