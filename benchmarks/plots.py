"""The frontier: hits against wrong replays, one small field for each set, as an SVG written by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _TOP = 300, 210, 46, 30
_FIELD_W, _FIELD_H, _COLUMNS = 230, 140, 3
_LEAST = 0.05
_MARKS = {
    "ours": "#0b6",
    "ours_open": "#6c9",
    "ours+values": "#084",
    "ours+confirm": "#06c",
    "ours@0": "#cc0",
    "ours@0.05": "#f80",
    "ours@0.2": "#d33",
}
_LABELS = {"cosine_0.80": ".80", "cosine_0.90": ".90", "cosine_0.94": ".94"}
_STYLE = "text{font:11px sans-serif;fill:#222}.axis{stroke:#888}.grid{stroke:#ddd}.name{font-weight:bold}"
Point = tuple[float, float]


def frontier(sets: Mapping[str, Mapping[str, Point]]) -> str:
    """An SVG of (wrong %, hit %) for each set's systems; the wrong share is on a logarithmic axis from 0.05."""
    rows = math.ceil(len(sets) / _COLUMNS)
    width, height = _COLUMNS * _WIDTH, rows * _HEIGHT + 30
    fields = [
        _field(name, systems, (number % _COLUMNS) * _WIDTH, (number // _COLUMNS) * _HEIGHT)
        for number, (name, systems) in enumerate(sets.items())
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="Share of repeats replayed against share of goals replayed wrongly, by set">\n'
        f"<style>{_STYLE}</style>\n" + "\n".join(fields) + "\n" + _legend(height) + "\n</svg>\n"
    )


def _field(name: str, systems: Mapping[str, Point], x: int, y: int) -> str:
    left, bottom = x + _LEFT, y + _TOP + _FIELD_H
    parts = [f'<text class="name" x="{left}" y="{y + 20}">{escape(name)}</text>']
    for hit in (0, 25, 50, 75, 100):
        at = bottom - hit * _FIELD_H / 100
        parts.append(f'<line class="grid" x1="{left}" x2="{left + _FIELD_W}" y1="{at:.0f}" y2="{at:.0f}"/>')
        parts.append(f'<text x="{left - 6}" y="{at + 4:.0f}" text-anchor="end">{hit}</text>')
    for wrong in (0.1, 1.0, 10.0, 100.0):
        at = left + _across(wrong)
        parts.append(f'<line class="grid" x1="{at:.0f}" x2="{at:.0f}" y1="{y + _TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{at:.0f}" y="{bottom + 14}" text-anchor="middle">{wrong:g}</text>')
    parts.append(f'<path class="axis" fill="none" d="M{left} {y + _TOP}V{bottom}H{left + _FIELD_W}"/>')
    parts += _line(systems, left, bottom)
    parts += [_point(system, point, left, bottom) for system, point in systems.items() if system in _shown(systems)]
    return "\n".join(parts)


def _shown(systems: Mapping[str, Point]) -> set[str]:
    return {system for system in systems if system in _MARKS or system in _LABELS}


def _line(systems: Mapping[str, Point], left: int, bottom: int) -> list[str]:
    """The cosine thresholds are one line."""
    places = [_place(systems[name], left, bottom) for name in _LABELS if name in systems]
    path = " L".join(f"{px:.1f} {py:.1f}" for px, py in places)
    return [f'<path fill="none" stroke="#999" d="M{path}"/>'] if len(places) > 1 else []


def _point(system: str, point: Point, left: int, bottom: int) -> str:
    px, py = _place(point, left, bottom)
    title = f"<title>{escape(system)}: {point[1]:.1f} % hits, {point[0]:.2f} % wrong</title>"
    if system in _LABELS:
        mark = f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.5" fill="#999">{title}</circle>'
        return f'{mark}<text x="{px + 5:.1f}" y="{py + 4:.1f}">{_LABELS[system]}</text>'
    return f'<circle cx="{px:.1f}" cy="{py:.1f}" r="5" fill="{_MARKS[system]}">{title}</circle>'


def _place(point: Point, left: int, bottom: int) -> Point:
    wrong, hit = point
    return left + _across(wrong), bottom - hit * _FIELD_H / 100


def _across(wrong: float) -> float:
    return _FIELD_W * math.log(max(wrong, _LEAST) / _LEAST) / math.log(100 / _LEAST)


def _legend(height: int) -> str:
    parts = []
    for number, (system, colour) in enumerate(_MARKS.items()):
        x = _LEFT + number * 92
        parts.append(f'<circle cx="{x}" cy="{height - 14}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{x + 9}" y="{height - 10}">{escape(system)}</text>')
    x = _LEFT + len(_MARKS) * 92
    parts.append(f'<text x="{x}" y="{height - 10}">line: cosine; across: wrong %, up: hits %</text>')
    return "\n".join(parts)


_SIDE = 220


def curve(bins: Sequence[tuple[float, float, float]]) -> str:
    """An SVG of (doubt, share that was wrong, its 95 % bound) for each bin; on the diagonal both are equal."""
    left, bottom = _LEFT, _TOP + _SIDE
    parts = [f'<path class="axis" fill="none" d="M{left} {_TOP}V{bottom}H{left + _SIDE}"/>']
    parts.append(f'<line class="grid" x1="{left}" y1="{bottom}" x2="{left + _SIDE}" y2="{_TOP}"/>')
    for share in (0, 25, 50, 75, 100):
        at = share * _SIDE / 100
        parts.append(f'<text x="{left - 6}" y="{bottom - at + 4:.0f}" text-anchor="end">{share}</text>')
        parts.append(f'<text x="{left + at:.0f}" y="{bottom + 14}" text-anchor="middle">{share}</text>')
    for doubt, wrong, most in bins:
        x, y, top = left + doubt * _SIDE, bottom - wrong * _SIDE, bottom - most * _SIDE
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{top:.1f}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#06c"/>')
    parts.append(f'<text x="{left}" y="{_TOP - 12}">wrong %, with its 95 % bound</text>')
    parts.append(f'<text x="{left + _SIDE}" y="{bottom + 30}" text-anchor="end">doubt %</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + _SIDE + 20} {bottom + 40}" role="img" '
        'aria-label="How often readings were wrong against the doubt they get">\n'
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )
