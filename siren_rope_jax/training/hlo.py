"""Reads a compiled program: which collectives it runs, how often, and what it moves.

XLA's own analysis counts the body of a loop once; here it counts as often as the loop runs, where
its condition compares with a constant. How often other loops run depends on the data: they count
once, and `loops_of_unknown_length` says how many there are.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "f64": 8, "s64": 8}
_BYTES |= {"u64": 8, "s32": 4, "u32": 4, "f32": 4, "f8e4m3fn": 1, "f8e5m2": 1, "s4": 1, "c64": 8}
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.+?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?")
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional"}
_IN_PLACE = {"dynamic-update-slice", "scatter"}
_PARTIAL = {"dynamic-slice", "slice", "gather", *_IN_PLACE}  # read or change a part of an array
_ELSEWHERE = re.compile(r"S\([1-9]\d*\)")  # in a layout: not in the main memory


@dataclass(frozen=True)
class Instruction:
    """One line of a program.

    Attributes:
      name: of its result.
      shape: of its result, with layout.
      op: what it does.
      rest: its operands and attributes.
      times: how often it runs in one execution.
    """

    name: str
    shape: str
    op: str
    rest: str
    times: int

    def group(self, devices: int) -> int:
        """How many of all devices take part together in a collective."""
        if found := re.search(r"replica_groups=\{\{([\d,]+)\}", self.rest):
            return len(found[1].split(","))
        if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", self.rest):
            return int(found[2])
        if found := re.search(r"replica_groups=mesh\[([^\]]*)\]", self.rest):
            axes = re.search(r"\{([^}]*)\}", self.rest[found.end() :][:80])
            sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
            named = re.findall(r"\w+", axes[1]) if axes else list(sizes)
            return math.prod(int(sizes[axis]) for axis in named if axis in sizes)
        return devices


class Program:
    """The text of a compiled program, as `Compiled.as_text` gives it."""

    def __init__(self, text: str) -> None:
        self._bodies: dict[str, list[tuple[str, str, str, str]]] = {}
        self._entry = current = ""
        for line in text.splitlines():
            if head := _HEAD.match(line):
                current = head[2]
                self._bodies[current] = []
                self._entry = current if head[1] else self._entry
            elif line == "}":
                current = ""
            elif current and (found := _LINE.match(line)):
                self._bodies[current].append((found[1], found[2], found[3], found[4]))

    @cached_property
    def instructions(self) -> list[Instruction]:
        """All that the program runs, but for what is fused into others."""
        return list(self._run(self._entry, 1))

    def _run(self, body: str, times: int) -> Iterator[Instruction]:
        for name, shape, op, rest in self._bodies.get(body, []):
            yield Instruction(f"{body}/{name}", shape, op, rest, times)
            called = re.search(r"body=%?([\w.\-]+)", rest)
            if op == "while" and called:
                yield from self._run(called[1], times * (self._trips(rest) or 1))
            elif op in ("call", "conditional", "async-start"):
                for other in re.findall(r"(?:to_apply|calls|computation)=%?([\w.\-]+)", rest):
                    yield from self._run(other, times)

    @cached_property
    def loops_of_unknown_length(self) -> int:
        """How many loops run as often as the data say, as the program runs them."""
        loops = (line for line in self.instructions if line.op == "while")
        return sum(line.times for line in loops if self._trips(line.rest) is None)

    def _trips(self, rest: str) -> int | None:
        """How often a loop runs: what its condition compares a counter with; None if unknown."""
        if known := re.search(r"known_trip_count\W+n\W+(\d+)", rest):
            return int(known[1])
        condition = re.search(r"condition=%?([\w.\-]+)", rest)
        lines = self._bodies.get(condition[1], []) if condition else []
        constants = {name: args for name, _, op, args in lines if op == "constant"}
        for _, _, op, args in lines:
            if op == "compare" and "direction=LT" in args:
                for name in re.findall(r"%([\w.\-]+)", args):
                    if found := re.match(r"(\d+)\)", constants.get(name, "")):
                        return int(found[1])
        return None

    def collectives(self, devices: int) -> list[tuple[str, int, int, int]]:
        """Kind, bytes of its result on a device, devices of a group, and how often it runs.

        Args:
          devices: of the program.
        """
        found = []
        for line in self.instructions:
            kind = line.op.removesuffix("-start")
            if kind in COLLECTIVES:
                size = _size_of(line.shape)
                if line.op != kind and kind != "all-reduce":  # it returns its operands, too
                    size -= sum(map(_size_of, self._shapes_of(line)))
                found.append((kind, max(size, 0), line.group(devices), line.times))
        return found

    def memory_traffic(self) -> int:
        """Bytes read from and written to a device's main memory, as far as the program shows it."""
        total = 0
        for line in self.instructions:
            if line.op in _FREE or line.op.endswith("-done"):
                continue
            called = re.search(r"calls=%?([\w.\-]+)", line.rest)
            if line.op in ("copy-start", "slice-start"):  # one side of it is elsewhere
                sizes = [_size(array) for array in _ARRAY.findall(line.shape)[:2]]
                moved = min((size for size in sizes if size), default=0)
            elif line.op == "fusion" and called:
                moved = self._of_fusion(line, self._bodies.get(called[1], []))
            else:
                moved = _accessed(line.op, line.shape, self._shapes_of(line))
            total += moved * line.times
        return total

    def _of_fusion(self, line: Instruction, body: list[tuple[str, str, str, str]]) -> int:
        """Its result and operands, of which it may read, or change in place, a part only."""
        inner = {name: shape for name, shape, _, _ in body}
        result, total = _in_memory(line.shape), 0
        for name, shape, op, rest in body:
            if op != "parameter":
                continue
            operand = _in_memory(self._shapes_of(line)[int(rest.partition(")")[0])])
            users = [(o, made, _operands(r)) for _, made, o, r in body if name in _operands(r)]
            if users and all(o in _PARTIAL and names[0] == name for o, _, names in users):
                parts = [_partial(o, made, [inner.get(n, "") for n in ns]) for o, made, ns in users]
                operand = min(sum(parts), operand)
                if any(o in _IN_PLACE for o, _, _ in users) and _size_of(shape) == result:
                    result = 0  # counted as what is changed of the operand
            total += operand
        return total + result

    def _shapes_of(self, line: Instruction) -> list[str]:
        """The shapes of what an instruction takes."""
        body = line.name.rpartition("/")[0]
        return [self._shapes.get(f"{body}/{name}", "") for name in _operands(line.rest)]

    @cached_property
    def _shapes(self) -> dict[str, str]:
        return {line.name: line.shape for line in self.instructions}


def _operands(rest: str) -> list[str]:
    return re.findall(r"%([\w.\-]+)", rest.split("), ")[0])


def _accessed(op: str, shape: str, operands: list[str]) -> int:
    """Bytes that an instruction reads and writes."""
    if op in _PARTIAL and operands:
        written = 0 if op in _IN_PLACE else _in_memory(shape)
        return written + _partial(op, shape, operands) + sum(map(_in_memory, operands[1:]))
    return _in_memory(shape) + sum(map(_in_memory, operands))


def _partial(op: str, shape: str, operands: list[str]) -> int:
    """Bytes of the first operand that an instruction reads, or changes in place."""
    if op in _IN_PLACE:
        return 2 * _size_of(operands[-1] if op == "scatter" else operands[1])
    return _size_of(shape)


def _size_of(shape: str) -> int:
    return sum(map(_size, _ARRAY.findall(shape)))


def _size(array: tuple[str, str, str]) -> int:
    kind, dimensions, _ = array
    return _BYTES.get(kind, 0) * math.prod(int(size) for size in dimensions.split(",") if size)


def _in_memory(shape: str) -> int:
    return sum(_size(a) for a in _ARRAY.findall(shape) if not _ELSEWHERE.search(a[2]))
