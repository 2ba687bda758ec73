"""The report as one HTML page that needs nothing else: its plots are SVG, drawn here. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_LEFT, _WIDTH, _RIGHT, _LINE = 130, 520, 110, 34
_DOT = 2.4

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #6a737d; --line: #d0d7de;
  --paper: #fff; --first: #57606a; --other: #0969da; --bad: #cf222e; --good: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #8b949e; --line: #30363d;
  --paper: #0d1117; --first: #8b949e; --other: #58a6ff; --bad: #ff7b72; --good: #56d364; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { text-align: left; padding: .3rem 1rem .3rem 0;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums }
.soft { color: var(--soft) } .bad { color: var(--bad) } .good { color: var(--good) }
svg { max-width: 100%; height: auto }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink) }
svg .axis { stroke: var(--line) } svg .soft { fill: var(--soft) }
svg .first { fill: var(--first); stroke: var(--first) }
svg .other { fill: var(--other); stroke: var(--other) } svg .dot { stroke: none; opacity: .45 }
"""


def render(document: Mapping[str, Any]) -> str:
    """Return the page of a report, which is the document that ``--json`` prints."""
    rows = [("original", document["original"]), *((v["method"], v) for v in document["variants"])]
    title = f"Variants of {document['model']}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            _verdict(document),
            *(f'<p class="bad">Note: {escape(text)}.</p>' for text in document["warnings"]),
            "<h2>Figures</h2>",
            _figures(rows, document["kept"]),
            "<h2>Size</h2>",
            _bars(rows),
            "<h2>Latency</h2>",
            f'<p class="soft">{_how(document)} A dot is one round; the line is the median.</p>',
            _dots(rows),
            "<h2>Times as fast as the original</h2>",
            '<p class="soft">The median of the paired rounds and its 95 % interval.</p>',
            _intervals(document["variants"], document["bounds"]["minSpeedUp"]),
            "<h2>Difference to the original</h2>",
            f'<p class="soft">On {escape(document["comparedOn"]["origin"])}.</p>',
            _differences(document["variants"]),
            "</body></html>\n",
        ]
    )


def _verdict(document: Mapping[str, Any]) -> str:
    failures = "".join(
        f"<li>{escape(v['method'])}: {escape(text)}</li>"
        for v in document["variants"]
        for text in v["failures"]
    )
    kept = document["kept"]
    said = (
        '<p class="bad">No variant holds the bounds, so none was kept.</p>'
        if kept is None
        else f'<p class="good">Kept: {escape(kept["method"])}, {escape(kept["digest"])}</p>'
    )
    return said + (f"<p>Bounds that were missed:</p><ul>{failures}</ul>" if failures else "")


def _how(document: Mapping[str, Any]) -> str:
    processor = document["processor"]
    flags = ", ".join(processor["int8"]) or "no INT8 dot products"
    return escape(
        f"{document['rounds']} rounds, both in each, batch {document['batchSize']},"
        f" {document['threads']} thread(s), on {processor['name']} ({flags})."
    )


def _figures(rows: Sequence[tuple[str, Any]], kept: Mapping[str, Any] | None) -> str:
    def row(name: str, entry: Any) -> list[str]:
        low, high = entry["latency"]["quartilesMs"]
        speed = entry.get("speedUp")
        return [
            name,
            f"{entry['size'] / 2**20:.2f} MiB",
            f"{entry['loadMs']:.0f} ms",
            f"{entry['latency']['medianMs']:.3g} ms ({low:.3g} to {high:.3g})",
            f"{speed['median']:.2f} ({speed['lower']:.2f} to {speed['upper']:.2f})"
            if speed
            else "",
            "" if entry["accuracy"] is None else f"{entry['accuracy']:.2%}",
            "refused"
            if entry.get("failures")
            else ("kept" if kept and kept["method"] == name else ""),
        ]

    head = ("", "size", "load", "latency (quartiles)", "times as fast", "accuracy", "")
    return _table(head, [row(name, entry) for name, entry in rows])


def _differences(variants: Sequence[Any]) -> str:
    def told(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return _table(
        (
            "variant",
            "output",
            "max absolute",
            "mean cosine",
            "lowest cosine",
            "worst column",
            "top-1 agreement",
        ),
        [
            [
                v["method"],
                item["output"],
                "not finite" if item["maxAbsolute"] is None else f"{item['maxAbsolute']:.3g}",
                told(item["cosine"], ".5f"),
                told(item["lowestCosine"], ".5f"),
                told(item["lowestColumn"], ".5f"),
                told(item["top1"], ".2%"),
            ]
            for v in variants
            for item in v["outputs"]
        ],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line('th', head)}{''.join(line('td', row) for row in rows)}</table>"


def _bars(rows: Sequence[tuple[str, Any]]) -> str:
    largest = max(entry["size"] for _, entry in rows)
    parts: list[str] = []
    tall = 'height="16"'
    for index, (name, entry) in enumerate(rows):
        top, width = index * _LINE, max(1.0, _WIDTH * entry["size"] / largest)
        parts += [
            _label(index, name),
            f'<rect class="{_kind(index)}" x="{_LEFT}" y="{top + 8}" width="{width:.1f}" {tall}/>',
            _text(_LEFT + width + 8, top + 21, f"{entry['size'] / 2**20:.2f} MiB"),
        ]
    return _svg(len(rows), parts, "Size of each model")


def _dots(rows: Sequence[tuple[str, Any]]) -> str:
    # A few rounds that something else disturbed shall not flatten the rest: they sit at the end.
    shown = [sorted(entry["latency"]["roundsMs"]) for _, entry in rows]
    most = 1.1 * max(values[int(0.95 * (len(values) - 1))] for values in shown)
    parts: list[str] = []
    for index, (name, entry) in enumerate(rows):
        middle = index * _LINE + _LINE / 2
        parts.append(_label(index, name))
        for number, value in enumerate(entry["latency"]["roundsMs"]):
            shift = (number % 5 - 2) * 3
            parts.append(
                f'<circle class="{_kind(index)} dot" cx="{_at(value, most):.1f}"'
                f' cy="{middle + shift:.1f}" r="{_DOT}"/>'
            )
        median = _at(entry["latency"]["medianMs"], most)
        parts.append(_line(_kind(index), (median, median), (middle - 12, middle + 12), 3))
    return _svg(len(rows), [*parts, *_axis(len(rows), most, "ms")], "Latency of each round")


def _intervals(variants: Sequence[Any], bound: float) -> str:
    most = 1.15 * max([1.0, bound, *(v["speedUp"]["upper"] for v in variants)])
    bottom = len(variants) * _LINE
    parts = [
        _line("axis", (_at(1, most), _at(1, most)), (0, bottom), 1),
    ]
    for index, variant in enumerate(variants):
        middle, speed = index * _LINE + _LINE / 2, variant["speedUp"]
        low, mid, high = (_at(speed[key], most) for key in ("lower", "median", "upper"))
        parts += [
            _label(index, variant["method"]),
            _line("other", (low, high), (middle, middle), 3),
            f'<circle class="other" cx="{mid:.1f}" cy="{middle}" r="5"/>',
        ]
    return _svg(len(variants), [*parts, *_axis(len(variants), most, "")], "Times as fast")


def _axis(lines: int, most: float, unit: str) -> list[str]:
    top = lines * _LINE + 4
    parts = [_line("axis", (_LEFT, _LEFT + _WIDTH), (top, top), 1)]
    for step in range(5):
        value = most * step / 4
        parts.append(_text(_at(value, most) - 12, top + 17, f"{value:.3g} {unit}", "soft"))
    return parts


def _label(index: int, name: str) -> str:
    return _text(0, index * _LINE + 21, name)


def _text(x: float, y: float, said: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(said)}</text>'


def _line(kind: str, x: tuple[float, float], y: tuple[float, float], width: int) -> str:
    ends = f'x1="{x[0]:.1f}" x2="{x[1]:.1f}" y1="{y[0]:.1f}" y2="{y[1]:.1f}"'
    return f'<line class="{kind}" {ends} stroke-width="{width}"/>'


def _kind(index: int) -> str:
    return "first" if index == 0 else "other"


def _at(value: float, most: float) -> float:
    return _LEFT + _WIDTH * min(value / most, 1.0)


def _svg(lines: int, parts: Sequence[str], title: str) -> str:
    width, height = _LEFT + _WIDTH + _RIGHT, lines * _LINE + 26
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img"'
        f' aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
