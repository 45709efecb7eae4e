"""
What both programs log of a real move, in every form, and the receipts they leave.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from realize.paths import printable, unprintable
from tests.support.programs import World

AWKWARD = b"new\nline \x1b[31m {x} %s \xff\\ \xe2\x80\xae"

#: Time, level, event and message, as people see them.
TEXT_LINE = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d) "
    r"(error|warn |info |debug) ([\w.-]+): (.+)"
)


@define
class Journal:
    """
    A socket where systemd's journal would have one, and what arrives there.
    """

    path: Path
    _socket: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.setblocking(False)

    def close(self) -> None:
        """
        Nobody listens any more.
        """
        self._socket.close()

    def entries(self) -> list[dict[str, str]]:
        """
        All that have arrived since the last time.
        """
        found = []
        while True:
            try:
                found.append(entry(self._socket.recv(1 << 20)))
            except BlockingIOError:
                return found


def entry(data: bytes) -> dict[str, str]:
    """
    One message of the journal's native protocol.
    """
    fields: dict[str, str] = {}
    while data:
        name, end, rest = data.partition(b"\n")
        key, equals, value = name.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, end, rest = rest[8 : 8 + length], rest[8 + length : 9 + length], b""
            data = data[len(name) + 1 + 8 + length + 1 :]
        else:
            data = rest
        assert end == b"\n"
        assert key.decode("ascii") not in fields
        fields[key.decode("ascii")] = value.decode("utf-8")
    return fields


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[dict[str, Journal]]:
    """
    One for the daemon and one for the command, so that it is known who said what.
    """
    made = {name: Journal(tmp_path / f"{name}.journal") for name in ("nas", "me")}
    yield made
    for journal in made.values():
        journal.close()


def file_named(folder: Path, name: bytes, content: bytes = b"content") -> None:
    """
    A file of any name.
    """
    with open(os.path.join(os.fsencode(folder), name), "wb") as file:
        file.write(content)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """
    A file with an awkward name, and one with a plain one.
    """
    folder = tmp_path / "source"
    folder.mkdir()
    file_named(folder, AWKWARD)
    file_named(folder, b"plain")
    return folder


def events(lines: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    """
    Those of one kind.
    """
    return [line for line in lines if line["event"] == event]


def json_lines(text: str) -> list[dict[str, Any]]:
    """
    Every line is an object, and has what every line has.
    """
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert list(line)[:4] == ["time", "level", "event", "message"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
        assert line["level"] in ("error", "warn", "info", "debug")
    return lines


def test_json(world: World, source: Path) -> None:
    """
    One object a line on both sides and nothing else; a line for each file, numbers
    are numbers, and names lead back to their bytes.
    """
    world.nas.start("--log-format", "json")
    log = ("--output", "log", "--log-format", "json")
    moved = world.realize(source, "nas:inbox", *log)
    world.nas.stop()
    assert moved.out == ""
    there, here = json_lines(world.nas.log.read_text()), json_lines(moved.err)

    assert [line["event"] for line in there if line["level"] == "info"][:2] == [
        "started",
        "peer-connected",
    ]
    final = events(there, "file-final")
    assert {unprintable(line["path"]) for line in final} == {AWKWARD, b"plain"}
    for line in final:
        assert (line["directory"], line["peer"], line["how"]) == (
            "inbox",
            "me",
            "written",
        )
        assert (line["size"], line["crossed"]) == (7, 7)
        assert len(line["blake3"]) == 64
        assert 0 <= line["seconds"] < 60
    (left,) = events(there, "peer-left")
    assert left["received"] > 1000
    assert left["sent"] > 1000
    assert there[-1]["event"] == "stopped"

    assert here[0]["event"] == "move-began"
    assert {unprintable(line["path"]) for line in events(here, "file-moved")} == {
        AWKWARD,
        b"plain",
    }
    summary = here[-1]
    assert summary["event"] == "move-ended"
    assert (summary["moved"], summary["size"], summary["exit"]) == (2, 14, 0)
    assert {line["session"] for line in final} == {summary["session"]}


def test_debug(world: World, source: Path) -> None:
    """
    Each step, at both ends.
    """
    world.nas.start("--log-format", "json", "--log-level", "debug")
    log = ("--output", "log", "--log-format", "json", "--log-level", "debug")
    here = json_lines(world.realize(source, "nas:inbox", *log).err)
    world.realize("nas:inbox", str(source))
    world.nas.stop()
    there = json_lines(world.nas.log.read_text())
    (written,) = events(there, "bytes-written")
    (read,) = events(there, "bytes-read")
    assert (written["size"], read["size"]) == (14, 14)
    (group,) = events(there, "group-committed")
    assert group["count"] == 2
    asked = {line["command"] for line in events(here, "request-made")}
    answered = {line["command"] for line in events(there, "request-answered")}
    assert {"OpenDestination", "Offer", "Write", "Finish"} <= asked
    assert asked <= answered


def test_text(world: World, source: Path) -> None:
    """
    One line each, whatever is in a name, and no escape reaches the terminal.
    """
    world.nas.start("--log-format", "text")
    moved = world.realize(source, "nas:inbox", "--output", "log")
    world.nas.stop()
    for text, event in (
        (world.nas.log.read_text(), "file-final"),
        (moved.err, "file-moved"),
    ):
        assert text.isascii()
        assert "\x1b" not in text
        lines = [TEXT_LINE.fullmatch(line) for line in text.splitlines()]
        assert None not in lines
        messages = [line[4] for line in lines if line and line[3] == event]
        assert len(messages) == 2
        assert sum(printable(AWKWARD) in message for message in messages) == 1


def test_journal(
    world: World, source: Path, journals: dict[str, Journal], tmp_path: Path
) -> None:
    """
    Native messages on both sides: priorities, fields, and no second time.
    """
    world.nas.start("--log-format", "journal", REALIZE_JOURNAL=journals["nas"].path)
    moved = world.realize(
        source,
        "nas:inbox",
        *("--output", "log", "--log-format", "journal"),
        env={"REALIZE_JOURNAL": str(journals["me"].path)},
    )
    world.nas.stop()
    assert (moved.out, moved.err) == ("", "")
    assert world.nas.log.read_text() == ""
    there, here = journals["nas"].entries(), journals["me"].entries()
    for each in (*there, *here):
        assert each["PRIORITY"] in ("3", "4", "6", "7")
        assert each["MESSAGE"].isprintable()
        assert not re.match(r"\d{4}-", each["MESSAGE"])
        assert {name for name in each if not name.startswith("REALIZE_")} == {
            "MESSAGE",
            "PRIORITY",
            "SYSLOG_IDENTIFIER",
        }
    assert {each["SYSLOG_IDENTIFIER"] for each in there} == {"realized"}
    assert {each["SYSLOG_IDENTIFIER"] for each in here} == {"realize"}
    final = [each for each in there if each["REALIZE_EVENT"] == "file-final"]
    assert {unprintable(each["REALIZE_PATH"]) for each in final} == {AWKWARD, b"plain"}
    assert {each["REALIZE_SIZE"] for each in final} == {"7"}
    assert here[-1]["REALIZE_EVENT"] == "move-ended"
    assert here[-1]["REALIZE_MOVED"] == "2"


def test_the_journal_is_chosen_by_itself(
    world: World, source: Path, journals: dict[str, Journal], tmp_path: Path
) -> None:
    """
    Where systemd says that standard error is the journal, and only there.
    """
    with (tmp_path / "stderr").open("wb") as file:
        status = os.fstat(file.fileno())
        said = f"{status.st_dev}:{status.st_ino}"
        env = {"JOURNAL_STREAM": said, "REALIZE_JOURNAL": str(journals["me"].path)}
        world.nas.start()
        words = (source, "nas:inbox", "--output", "log")
        world.begin(*words, env=env, stderr=file).wait(60)
    assert (tmp_path / "stderr").read_text() == ""
    assert journals["me"].entries()[-1]["REALIZE_EVENT"] == "move-ended"
    file_named(source, b"another")
    assert "move-ended" in world.realize(*words, env=env).err
    assert journals["me"].entries() == []


def receipts(path: Path) -> list[dict[str, Any]]:
    """
    The lines of an audit log.
    """
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_receipts_on_both_sides(world: World, source: Path, tmp_path: Path) -> None:
    """
    Each file once, before its source went, and once when it had gone; the same
    digest and session here and there.
    """
    there, here = tmp_path / "nas.audit", tmp_path / "me.audit"
    world.nas.start("--audit-log", str(there))
    world.realize(source, "nas:inbox/sub", "--audit-log", here)
    final = receipts(there)
    assert [each["event"] for each in final] == ["final"] * 2
    assert {unprintable(each["path"]) for each in final} == {
        b"sub/" + AWKWARD,
        b"sub/plain",
    }
    for each in final:
        assert (each["directory"], each["peer"]) == ("inbox", "me")
        assert each["size"] == 7
        assert list(each) == [
            *("time", "event", "directory", "place", "path", "size", "blake3"),
            "peer",
            "session",
        ]
    kinds = [
        (each["event"], each["directory"], each["peer"]) for each in receipts(here)
    ]
    assert kinds == [("final", "inbox", "nas")] * 2 + [("removed", "local", "nas")] * 2
    assert {each["blake3"] for each in receipts(here)} == {
        each["blake3"] for each in final
    }
    assert {each["session"] for each in receipts(here)} == {
        each["session"] for each in final
    }

    # And back: the daemon writes down what was taken from it.
    (tmp_path / "back").mkdir()
    world.realize("nas:inbox/sub/plain", tmp_path / "back", "--audit-log", here)
    last = receipts(there)[-1]
    assert (last["event"], last["path"], last["peer"]) == ("removed", "sub/plain", "me")
    final_here, removed_here = receipts(here)[-2:]
    assert (final_here["directory"], final_here["path"]) == ("local", "plain")
    assert (removed_here["directory"], removed_here["path"]) == ("inbox", "sub/plain")


@pytest.mark.parametrize("other_disk", [False, True])
def test_receipts_of_a_move_on_one_host(tmp_path: Path, other_disk: bool) -> None:
    """
    With digests, also where a rename read nothing.
    """
    world = World.create(tmp_path / "world")
    source, target = tmp_path / "from", tmp_path / "to"
    source.mkdir()
    target.mkdir()
    file_named(source, b"a", b"x" * 1000)
    words = (source, target, "--audit-log", tmp_path / "audit")
    if other_disk:
        shared = Path("/dev/shm")
        if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no other disk")
        target = shared / f"realize-test-{os.getpid()}"
        target.mkdir()
        words = (source, target, "--audit-log", tmp_path / "audit")
    try:
        world.realize(*words)
        verified = world.realize("verify", tmp_path / "audit", target)
    finally:
        if other_disk:
            for file in target.iterdir():
                file.unlink()
            target.rmdir()
    assert verified.out == f"1 file verified, at {target}.\n"
    kinds = [each["event"] for each in receipts(tmp_path / "audit")]
    assert kinds == ["final", "removed"]
    assert {len(each["blake3"]) for each in receipts(tmp_path / "audit")} == {64}


def test_no_receipt_no_removal(world: World, source: Path) -> None:
    """
    Where the audit log cannot be written, at either end, the source stays.
    """
    world.nas.start()
    said = world.realize(source, "nas:inbox", "--audit-log", "/dev/full", status=1)
    assert said.err.count("the audit log cannot be written: No space left") == 2
    assert len(list(source.iterdir())) == 2
    world.nas.stop()
    world.nas.start("--audit-log", "/dev/full")
    said = world.realize(source, "nas:inbox", status=1)
    assert said.err.count("the audit log cannot be written: No space left") == 2
    assert len(list(source.iterdir())) == 2


def test_verify(world: World, source: Path, tmp_path: Path) -> None:
    """
    Against the directory, and against the peer that has it; what is wrong is named.
    """
    here = tmp_path / "audit"
    world.nas.start()
    world.realize(source, "nas:inbox", "--audit-log", here)
    inbox = world.nas.directory("inbox")
    said = world.realize("verify", here, "--config", world.me.config)
    assert said.out == "2 files verified, at nas:inbox.\n"
    (inbox / "plain").write_bytes(b"CONTENT")
    os.unlink(os.path.join(os.fsencode(inbox), AWKWARD))
    for place in (inbox, "nas:inbox"):
        said = world.realize("verify", here, place, status=1)
        assert said.out.splitlines() == [
            "different: plain (the content has changed)",
            f"missing: {printable(AWKWARD)}",
            f"0 files verified, 2 not, at {place}.",
        ]


def test_verify_goes_on_where_the_log_is_damaged(
    world: World, source: Path, tmp_path: Path
) -> None:
    """
    What can be checked is; that something could not be has a status of its own, and a
    log that tells of nothing is no success.
    """
    log, inbox = tmp_path / "audit", tmp_path / "there"
    inbox.mkdir()
    world.realize(source, inbox, "--audit-log", log)
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + b"[" * 10_000 + b"\n" + b"".join(lines[1:]) + b'{"time')
    said = world.realize("verify", log, status=14)
    assert said.out.splitlines() == [
        f"{log}: 1 line cut short by a crash or a full disk: what was to be told was "
        "not done, or told again",
        f"{log}: 1 line could not be read as receipts, the first is line 2: what they "
        "told of is not checked",
        f"2 files verified, at {inbox}.",
    ]
    assert (
        f"2 files verified, at {inbox}."
        in world.realize("verify", "-", stdin=log.open("rb"), status=14).out
    )
    (inbox / "plain").write_bytes(b"CONTENT")
    world.realize("verify", log, inbox, status=1)
    log.write_bytes(b"".join(lines[2:]))
    said = world.realize("verify", log, inbox, status=2)
    assert "tells of no file that should still be there" in said.err


def test_a_quiet_success_says_nothing(world: World, source: Path) -> None:
    """
    Nothing for cron to send.
    """
    world.nas.start()
    said = world.realize(source, "nas:inbox", "--output", "quiet")
    assert (said.out, said.err) == ("", "")


def test_trouble_is_told_once(world: World, source: Path, tmp_path: Path) -> None:
    """
    To people in their words; in the log only if there is one; there, not twice.
    """
    world.nas.start()
    (world.nas.directory("inbox") / "plain").mkdir()
    said = world.realize(source, "nas:inbox", status=1)
    assert said.err.count("plain") == 1
    log = tmp_path / "log"
    said = world.realize(source, "nas:inbox", "--log-file", log, status=1)
    assert said.err.count("plain") == 1
    (line,) = log.read_text().splitlines()
    assert " warn  file-failed: plain in nas:inbox: " in line
    assert log.stat().st_mode & 0o777 == 0o640
    (source / ".a.realize-part").touch()
    said = world.realize(source, "nas:inbox", "--output", "log", status=1)
    assert said.err.count("file-failed: ") == 1
    assert said.err.count("file-stays: .a.realize-part in ") == 1


@pytest.mark.parametrize("command", ["move", "status", "throttle", "loglevel", "demo"])
def test_every_sub_command_has_the_options(world: World, command: str) -> None:
    """
    And keygen and verify too.
    """
    for each in (command, "keygen", "verify"):
        said = world.realize(each, "--help").out
        for option in ("--log-level", "--log-format", "--log-file"):
            assert option in said


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--log-level", "loud"], "--log-level: unknown log level 'loud'"),
        (["--log-file", "/nowhere/log"], "--log-file: /nowhere/log: No such file"),
        (
            ["--log-format", "journal", "--log-file", "x"],
            "--log-format: the journal is not written to a file",
        ),
        (["--audit-log", "/nowhere/log"], "--audit-log: /nowhere/log: No such file"),
    ],
)
def test_what_is_not_valid(
    world: World, source: Path, options: list[str], complaint: str
) -> None:
    """
    Nothing is moved.
    """
    world.nas.start()
    said = world.realize(source, "nas:inbox", *options, status=2)
    assert said.err.startswith(f"realize: {complaint}")
    assert said.err.count("\n") == 1
    assert len(list(source.iterdir())) == 2


def test_many_small_files(world: World, journals: dict[str, Journal]) -> None:
    """
    The journal never sees more than a line for each group; the audit log has all.
    """
    number = int(os.environ.get("REALIZE_MANY_FILES", "5000"))
    source = world.folder / "many"
    for index in range(number):
        folder = source / f"{index // 1000}"
        if index % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"{index}").write_bytes(b"%d" % index)
    audit = world.folder / "audit"
    journal = ("--log-format", "journal")
    world.nas.start(
        *journal, "--audit-log", str(audit), REALIZE_JOURNAL=journals["nas"].path
    )
    process = world.begin(
        *(source, "nas:inbox", "--output", "log", *journal),
        env={"REALIZE_JOURNAL": str(journals["me"].path)},
    )
    counts = {"nas": 0, "me": 0}
    files = {"nas": 0, "me": 0}

    def read() -> None:
        for name, each in journals.items():
            for line in each.entries():
                counts[name] += line["PRIORITY"] == "6"
                if line["REALIZE_EVENT"] in ("files-final", "files-moved"):
                    files[name] += int(line["REALIZE_COUNT"])
                elif line["REALIZE_EVENT"] in ("file-final", "file-moved"):
                    files[name] += 1

    while process.poll() is None:
        read()
    world.nas.stop()
    read()
    assert process.communicate() == (b"", b"")
    assert process.returncode == 0
    assert files == {"nas": number, "me": number}
    assert max(counts.values()) < 1000
    with audit.open() as lines:
        assert len({json.loads(line)["path"] for line in lines}) == number
