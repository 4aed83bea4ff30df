"""The model card in Markdown, rendered from card.json alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def render_card(facts: Mapping[str, Any]) -> str:
    """The card for people; says nothing that card.json does not."""
    sections = (
        _front(facts),
        _head(facts),
        _provenance(facts),
        _metrics(facts),
        _calling(facts),
        _artifacts(facts),
        _latency(facts),
        _limits(facts),
        _files(facts),
    )
    return "\n".join(line for section in sections for line in section) + "\n"


def _front(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "---"
    if facts["licence"]:
        yield f"license: {facts['licence']}"
    yield from ("tags:", "- holdfast", "---", "")


def _head(facts: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"# {_plain(facts['name'])} {facts['version']}", "")
    if facts["description"]:
        yield from (_plain(facts["description"]), "")
    weights = facts["weights"]
    yield f"- Content: `{facts['digest']}`"
    yield f"- Released: {facts['created']}"
    yield f"- Licence: {facts['licence'] or 'not stated'}"
    yield f"- Weights: {weights['numbers']:,} numbers, {weights['bytes'] / 1e6:.2f} MB, " + (
        ", ".join(weights["dtypes"])
    )
    for note in weights["notes"]:
        yield f"- {_plain(note)}"
    yield ""


def _provenance(facts: Mapping[str, Any]) -> Iterator[str]:
    found = facts["provenance"]
    yield from ("## How it was trained", "")
    for key in ("kind", "name", "id", "run", "component", "epoch", "global_step", "time", "reason"):
        if found.get(key) not in (None, ""):
            yield f"- {key.replace('_', ' ')}: {_plain(found[key])}"
    training = found.get("training") or {}
    git = training.get("git") or {}
    if git:
        state = " with uncommitted changes" if git.get("dirty") else ""
        yield f"- source: commit {git.get('commit')}{state}"
    if training.get("command"):
        yield f"- command: `{_plain(' '.join(map(str, training['command'])))}`"
    for parent in found.get("parents") or ():
        yield f"- {parent['relation'].replace('_', ' ')}: {_plain(parent['name'])}"
    yield ""


def _metrics(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["metrics"]:
        yield from ("## Evaluation", "")
        rows = [
            (
                one["name"],
                _number(one.get("value")),
                _interval(one),
                one.get("set", ""),
                one.get("signature", ""),
            )
            for one in facts["metrics"]
        ]
        yield from _table(("metric", "value", "interval", "on", "signature"), rows)
        yield ""
    saved = facts["provenance"].get("metrics")
    if saved:
        yield from ("## Metrics when the checkpoint was saved", "")
        yield from _table(("metric", "value"), [(k, _number(v)) for k, v in saved.items()])
        yield ""


def _calling(facts: Mapping[str, Any]) -> Iterator[str]:
    for graph in facts["graphs"]:
        yield from (f"## Calling `{graph['name']}`", "")
        rows = [
            (one["name"], one["dtype"], _axes(one["axes"]), _values(one))
            for one in graph["signature"]["inputs"]
        ]
        yield from _table(("input", "dtype", "shape", "values"), rows)
        yield ""
        rows = [
            (one["name"], one["dtype"], f"[{', '.join(map(str, one['shape']))}]", "")
            for one in graph["outputs"]
        ]
        yield from _table(("output", "dtype", "shape", ""), rows)
        yield ""
        shapes = "; ".join(
            f"{name} {one['shape']} beginning {one['first_values'][:6]}"
            for name, one in graph["example"].items()
        )
        yield from (f"Example: {shapes}; with its outputs in `examples.safetensors`.", "")
        if graph["removed"]:
            yield f"Left out because nothing uses it: {', '.join(graph['removed'][:20])}."
            yield ""
        unused = [*graph["unused"]["parameters"], *graph["unused"]["buffers"]]
        if unused:
            yield f"Never used: {', '.join(unused[:20])} ({graph['unused']['bytes']} bytes)."
            yield ""


def _artifacts(facts: Mapping[str, Any]) -> Iterator[str]:
    yield from (
        "## Artifacts",
        "",
        "Each was read back from disk and compared with eager mode.",
        "",
    )
    rows = [
        (
            one["format"] + (" (legacy)" if one["legacy"] else ""),
            one["graph"],
            ", ".join(f"`{file['name']}`" for file in one["files"]),
            f"{sum(file['bytes'] for file in one['files']) / 1e6:.2f}",
            str(len(one["cases"])),
            f"{one['max_difference']:.2g}",
            "" if one["arg_max_agreement"] is None else f"{one['arg_max_agreement']:.2%}",
            one["weights"],
        )
        for one in facts["artifacts"]
    ]
    columns = (
        "format",
        "graph",
        "files",
        "MB",
        "shapes",
        "largest difference",
        "arg-max",
        "weights",
    )
    yield from _table(columns, rows)
    yield ""
    for one in facts["artifacts"]:
        for name, tolerance in one["tolerances"].items():
            yield (
                f"- {one['format']} {one['graph']}, {name}: tolerance {tolerance['absolute']:g} + "
                f"{tolerance['relative']:g} of the size, arg-max {tolerance['agreement']:.1%}"
            )
        yield from (
            f"- {one['format']}: {check['name']}: {check['text']}" for check in one["checks"]
        )
        if one["legacy"]:
            yield f"- {one['format']} is legacy: {one['legacy']}"
    for one in facts["refused"]:
        yield f"- refused: {one['format']} of {one['graph']}: {_plain(one['reasons'][0])}"
    yield ""


def _latency(facts: Mapping[str, Any]) -> Iterator[str]:
    table = facts["latency"]
    if not table:
        return
    yield from ("## Latency", "")
    yield from _table(table["columns"], [list(map(str, row)) for row in table["rows"]])
    yield ""
    for note in table.get("notes", ()):
        yield f"- {_plain(note)}"
    yield ""


def _limits(facts: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Limits", "")
    yield from (f"- {_plain(limit)}" for limit in facts["limits"])
    yield ""


def _files(facts: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Files", "", "`holdfast release verify .` or `sha256sum -c SHA256SUMS`.", "")
    yield from (f"- `{one['name']}`: {one['bytes']} bytes" for one in facts["files"])
    versions = ", ".join(f"{key} {value}" for key, value in facts["environment"].items())
    yield from ("", f"Made with {versions}.")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in row) + " |"


def _axes(axes: Sequence[Any]) -> str:
    shown = [
        str(axis) if isinstance(axis, int) else f"{axis['name']} {axis['min']}..{axis['max']}"
        for axis in axes
    ]
    return f"[{', '.join(shown)}]"


def _values(one: Mapping[str, Any]) -> str:
    if one["mask"]:
        return "1 used, 0 padding"
    if not one["dtype"].startswith(("int", "uint")):
        return ""
    padding = "" if one["pad"] is None else f", padding {one['pad']}"
    return f"{one['low']:g}..{one['high']:g}{padding}"


def _interval(one: Mapping[str, Any]) -> str:
    if one.get("low") is None or one.get("high") is None:
        return ""
    level = f" ({one['level']:.0%})" if isinstance(one.get("level"), float) else ""
    return f"{_number(one['low'])} to {_number(one['high'])}{level}"


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(text: object) -> str:
    return " ".join(str(text).split())
