"""Three tools to copy from: one reads a file, one is pure arithmetic, one simulates a small quantum circuit."""

from __future__ import annotations

import cmath
import math
import random
import re
from collections import Counter
from typing import Any

from plugins import ToolContext, llm_tool

# --- a tool that reads: annotated read_only, confined to the workspace by ctx.resolve ----------------


@llm_tool(
    "word_count",
    "Count the lines, words and characters of a text file and list its most frequent words",
    {"path": str, "top": int},
    read_only=True,
    idempotent=True,
    open_world=False,
    paths=("path",),
)
def word_count(path: str, ctx: ToolContext, top: int = 5) -> dict[str, Any]:
    """Words are runs of letters and digits, counted without regard to case; ties are listed alphabetically."""
    text = ctx.resolve(path).read_text(encoding="utf-8")
    words = re.findall(r"\w+", text.lower())
    ranked = sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))[:top]
    return {
        "lines": len(text.splitlines()),
        "words": len(words),
        "characters": len(text),
        "top": [{"word": word, "count": count} for word, count in ranked],
        "text": f"{len(text.splitlines())} lines, {len(words)} words, {len(text)} characters",
    }


# --- a pure tool: the same arguments always give the same value ---------------------------------------

_TO_KELVIN = {"C": (1.0, 273.15), "F": (5 / 9, 459.67 * 5 / 9), "K": (1.0, 0.0)}


@llm_tool(
    "convert_temperature",
    "Convert a temperature between Celsius (C), Fahrenheit (F) and Kelvin (K)",
    {"value": float, "source": {"enum": ["C", "F", "K"]}, "target": {"enum": ["C", "F", "K"]}},
    effect="pure",
    idempotent=True,
)
def convert_temperature(value: float, source: str, target: str) -> dict[str, Any]:
    """The value in the other scale, rounded to six decimals.

    Raises:
        ValueError: below absolute zero.
    """
    factor, offset = _TO_KELVIN[source]
    kelvin = value * factor + offset
    if kelvin < -1e-9:
        raise ValueError(f"{value:g} {source} is below absolute zero")
    factor, offset = _TO_KELVIN[target]
    result = round((kelvin - offset) / factor, 6)
    return {"value": result, "unit": target, "text": f"{result:g} {target}"}


# --- a simulation: deterministic because its seed is an argument ---------------------------------------

MAX_QUBITS = 12
MAX_SHOTS = 1_000_000
State = list[complex]
Matrix = tuple[complex, complex, complex, complex]

_ROOT = 1 / math.sqrt(2)
_FIXED: dict[str, Matrix] = {
    "h": (_ROOT, _ROOT, _ROOT, -_ROOT),
    "x": (0, 1, 1, 0),
    "y": (0, -1j, 1j, 0),
    "z": (1, 0, 0, -1),
    "s": (1, 0, 0, 1j),
    "t": (1, 0, 0, cmath.exp(0.25j * math.pi)),
}


@llm_tool(
    "simulate_circuit",
    "Simulate a quantum circuit. circuit_spec is one gate after another, separated by ';' or new lines: "
    "h 0; x 1; y, z, s, t; rx 0 1.57; ry, rz (angle in radians); cx 0 1; cz 0 1; swap 0 1. All qubits start in 0 "
    "and are measured at the end",
    {"circuit_spec": str, "shots": int, "seed": int},
    defaults={"shots": 1024, "seed": 0},
    effect="pure",
    idempotent=True,
    code=("circuit_spec",),
)
def simulate_circuit(circuit_spec: str, shots: int, seed: int) -> dict[str, Any]:
    """Exact probabilities from the state vector, and counts drawn from them with the seed.

    In an outcome such as `01` the leftmost digit is qubit 0.

    Raises:
        ValueError: an unknown gate, wrong qubits or angles, too many qubits or shots.
    """
    gates = [_parse_gate(line) for line in re.split(r"[;\n]", circuit_spec) if line.strip()]
    if not gates:
        raise ValueError("the circuit has no gates; try 'h 0; cx 0 1'")
    count = max(qubit for _, qubits, _ in gates for qubit in qubits) + 1
    if count > MAX_QUBITS or not 0 < shots <= MAX_SHOTS:
        raise ValueError(f"at most {MAX_QUBITS} qubits and 1 to {MAX_SHOTS} shots")
    state: State = [1.0 + 0j] + [0j] * (2**count - 1)
    for name, qubits, angle in gates:
        state = _apply(state, name, [count - 1 - qubit for qubit in qubits], angle)
    names = [format(index, f"0{count}b") for index in range(2**count)]
    weights = [abs(amplitude) ** 2 for amplitude in state]
    drawn = Counter(random.Random(seed).choices(names, weights, k=shots))
    return {
        "qubits": count,
        "shots": shots,
        "counts": dict(sorted(drawn.items())),
        "probabilities": {
            name: round(weight, 12) for name, weight in zip(names, weights, strict=True) if weight > 1e-12
        },
        "text": ", ".join(f"{name}: {drawn[name]}" for name in sorted(drawn)),
    }


def _parse_gate(line: str) -> tuple[str, list[int], float]:
    name, *words = line.lower().replace(",", " ").split()
    wanted = 2 if name in ("cx", "cz", "swap") else 1
    if name not in _FIXED and name not in ("cx", "cz", "swap", "rx", "ry", "rz"):
        raise ValueError(f"unknown gate {name!r} in {line.strip()!r}")
    angles = words[wanted:]
    if (
        len(words) < wanted
        or len(angles) != (name in ("rx", "ry", "rz"))
        or not all(w.isdigit() for w in words[:wanted])
    ):
        raise ValueError(f"{line.strip()!r} needs {wanted} qubit number(s){' and an angle' if name[0] == 'r' else ''}")
    qubits = [int(word) for word in words[:wanted]]
    if len(set(qubits)) < wanted:
        raise ValueError(f"{line.strip()!r} names one qubit twice")
    return name, qubits, float(angles[0]) if angles else 0.0


def _matrix(name: str, angle: float) -> Matrix:
    if name in _FIXED:
        return _FIXED[name]
    cos, sin = math.cos(angle / 2), math.sin(angle / 2)
    return {
        "rx": (cos, -1j * sin, -1j * sin, cos),
        "ry": (cos, -sin, sin, cos),
        "rz": (cmath.exp(-0.5j * angle), 0, 0, cmath.exp(0.5j * angle)),
    }[name]


def _apply(state: State, name: str, bits: list[int], angle: float) -> State:
    """The state after one gate; `bits` are positions counted from the lowest bit of an index."""
    if name == "swap":
        first, second = bits
        moved = [_swapped(index, first, second) for index in range(len(state))]
        return [state[index] for index in moved]
    target = 1 << bits[-1]
    control = 1 << bits[0] if len(bits) == 2 else 0
    a, b, c, d = _matrix({"cx": "x", "cz": "z"}.get(name, name), angle)
    after = list(state)
    for index in range(len(state)):
        if not index & target and index & control == control:
            low, high = state[index], state[index | target]
            after[index], after[index | target] = a * low + b * high, c * low + d * high
    return after


def _swapped(index: int, first: int, second: int) -> int:
    differ = (index >> first & 1) ^ (index >> second & 1)
    return index ^ (differ << first | differ << second)
