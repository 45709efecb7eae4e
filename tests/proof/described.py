"""
Requests made from the protocol's own description, ``docs/protocol.md``: every command,
argument and record of its tables, with values at, over and far over their bounds.
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
from attrs import define, field

TEXT: Final = (Path(__file__).parents[2] / "docs/protocol.md").read_text("utf-8")

#: Where numbers have their bounds, and one beyond each.
EDGES: Final = (
    *(0, 1, 2, 3, 16, 255, 256, 511, 512, 1023, 1024, 1025, 2048, 4095, 4096, 8192),
    *(65_535, 65_536, 131_072, 2**20, 4_194_304, 67_108_864, 67_108_865),
    *(268_435_456, 2**42, 2**62, 2**63 - 1),
)
FAR: Final = (-1, -(2**63), 2**63, 2**64 - 1)

#: What a box may have where a number belongs.
NUMBERS: Final = (b"", b"-1", b"01", b"1 ", b"9" * 19, b"9" * 60_000, b"\xff", b"1e3")

#: Harmless, hostile, and not there; in texts as in names.
WORDS: Final = (
    *(b"inbox", b"pool", b"none", b"", b"connection", b"peer", b"service", b"me"),
    *(b"off", b"1000000", b"128", b"\x1b]0;x\x07", "\u202egpj.exe".encode()),
    *(b"line\nline", b"w" * 128, b"w" * 60_000, b"\xff\xfe", b"info", b"debug"),
)

PATHS: Final = (
    *(b"evil", b"evil/a", b"evil/b/c", b"hole", b"large", b"", b".", b"..", b"/etc"),
    *(b"../out", b"a/../../out", b"a//b", b"a\0b", b"a/", b"x" * 255, b"x" * 256),
    *(b"x/" * 63 + b"x", b"x/" * 64 + b"x", (b"d" * 250 + b"/") * 16 + b"d" * 79),
    *((b"d" * 250 + b"/") * 16 + b"d" * 80, b"x" * 65_536, b".realize", b".realize-x"),
    *(b"\x1b[2J", "\u202etxt".encode(), b"new\nline", b"honest/0"),
)


def _rows(heading: str) -> list[list[str]]:
    table = TEXT.partition(f"\n| {heading}")[2].split("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()[2:]
    ]


def _commands() -> dict[str, dict[str, str]]:
    """
    The arguments of each command that a client sends, and the type of each.
    """
    found = {}
    for name, sender, _, arguments, _ in _rows("command | from"):
        if sender != "server":
            parts = re.findall(r"`(\w+)` ([^`]*)", arguments)
            found[name.strip("`")] = {key: kind.strip(", ") for key, kind in parts}
    return found


def _records() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """
    What each record begins with, and its fields with what is said of them.
    """
    found = {}
    for name, begins, fields in _rows("record | begins"):
        parts: list[tuple[str, str]] = []
        for part in fields.split(";"):
            keys, _, kind = part.rpartition("`")
            of = re.search(r"list of `(\w+)$", keys)
            if of:
                keys, kind = keys[: of.start()], f"list of {of[1]}"
            parts += [(key, kind.strip()) for key in re.findall(r"`(\w+)`", keys + "`")]
        found[name.strip("`")] = begins.strip("`"), parts
    return found


COMMANDS: Final = _commands()
RECORDS: Final = _records()


@define
class Made:
    """
    Makes requests.

    :ivar random: where they come from.
    :ivar known: values that the server has given, by the field in which they may be
        sent back: ``identity``, ``version``, ``mark``.
    """

    random: Random
    known: dict[str, list[bytes]] = field(factory=dict)

    def request(self, name: str) -> tuple[dict[bytes, bytes], bytes | None]:
        """
        The arguments of a command, and its payload if it has one.
        """
        box: dict[bytes, bytes] = {}
        payload = None
        for key, kind in COMMANDS[name].items():
            if ("optional" in kind and self._seldom(2)) or self._seldom(200):
                continue
            if key == "payload":
                content = b""
                if "content" in kind:
                    content = bytes(self.random.choice((0, 1, 100, 65_536, 1_000_000)))
                head = self._encoded(self._head(kind.split(",")[0]))
                payload = len(head).to_bytes(4, "big") + head + content
            else:
                box[key.encode()] = self._argument(key, kind)
        return box, payload

    def _seldom(self, often: int) -> bool:
        return not self.random.randrange(often)

    def _argument(self, key: str, kind: str) -> bytes:
        if self._seldom(100):
            return self.random.choice(NUMBERS)
        if key == "store":
            return b"%d" % self.random.choice((1, 2, 2, 3, 17))
        if "number" in kind:
            return b"%d" % self._number()
        if "boolean" in kind:
            return self.random.choice((b"True", b"False"))
        if key in ("below", "mark"):
            return self.random.choice((*PATHS, b"", b"", *self.known.get(key, ())))
        return self.random.choice(WORDS)

    def _number(self) -> int:
        if self._seldom(40):
            return self.random.choice(FAR)
        return self.random.choice(EDGES[: self.random.randint(1, len(EDGES))])

    def _head(self, kind: str) -> Any:
        if self._seldom(100):
            return self.random.choice(([], None, {}, "x", [[]] * 5000, 2**63, _deep()))
        record = kind.removeprefix("list of ")
        if record == kind:
            return self._value(record)
        count = 1 if self._seldom(2) else self.random.choice((0, 2, 30, 1024, 1025))
        return [self._value(record) for _ in range(count)]

    def _value(self, record: str) -> Any:
        if record not in RECORDS:
            return self._field(record, "")
        begins, fields = RECORDS[record]
        values = [self._field(key, kind) for key, kind in fields]
        if self._seldom(100):
            values = values[: self.random.randint(0, len(values))]
        return [begins, *values] if begins else values

    def _field(self, key: str, kind: str) -> Any:  # a table
        if self._seldom(300):
            return self.random.choice((None, -1, 2**64 - 1, "x", b"x", [], 1.5, True))
        if key in ("path", "bytes") or "paths" in kind:
            path = self.random.choice(PATHS)
            return [path] * self.random.choice((0, 1, 3)) if "paths" in kind else path
        if kind.startswith("list of ") and kind[8:] in RECORDS:
            return self._head(kind)
        if key == "steps" and "Fetch" in kind:
            return [self._value(self.random.choice(("Reuse", "Fetch"))) for _ in "ab"]
        if key in self.known and not self._seldom(4):
            return self.random.choice(self.known[key])
        if key in ("identity", "version", "mark"):
            return bytes(self.random.choice((0, 1, 32, 255, 256)))
        if key == "digest":
            return bytes(self.random.choice((0, 31, 32, 33, 34)))
        if key in ("keep", "digests"):
            return [bytes(32)] * self.random.choice((0, 1, 30))
        if key in ("runs", "ahead"):
            return [self._number()] * self.random.choice((0, 1, 2, 4096, 4097))
        if key == "step":
            return self.random.choice(("hide", "unlink", "restore", "x"))
        if "boolean" in kind or key in ("blocks", "sparse", "recurse"):
            return self.random.random() < 0.5
        return self._number()

    def _encoded(self, head: Any) -> bytes:
        try:
            return msgspec.msgpack.encode(head)
        except OverflowError:
            # Wider than msgpack has numbers.
            return b"\xc1"


def _deep() -> Any:
    nested: list[Any] = []
    for _ in range(300):
        nested = [nested]
    return nested
