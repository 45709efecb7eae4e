"""
The socket of a running move, with a reactor that is turned by the test.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from realize.cli import local_control, local_moves
from realize.cli.endpoints import LocalPlace, PeerPlace
from realize.cli.local_control import MAX_CONNECTIONS, LocalControl
from realize.cli.local_moves import ANSWER_DEADLINE, MAX_LINE, ask, running
from realize.cli.main import status_of
from realize.cli.report import Ends
from realize.cli.throttle_options import Rate, ThrottleChoice
from realize.cli.throttling import TELLING, Throttling
from realize.config import PeerConfig
from realize.errors import ConfigError, NotAllowed, PeerGone
from realize.move.mover import Mover
from realize.move.observers import Observers
from realize.move.outcome import MoveSettings
from tests.support.processes import as_user
from tests.support.requirements import needs

NAS = PeerPlace(PeerConfig("nas", bytes(32), "127.0.0.1:1"), "inbox")


class Move:
    """
    What a running move has to do with its socket.

    :ivar said: what it told its user.
    """

    def __init__(self, runtime: Path, choice: ThrottleChoice) -> None:
        self.reactor: Any = EPollReactor()
        self.environ = {"XDG_RUNTIME_DIR": str(runtime)}
        self.throttling = Throttling(self.reactor, LocalPlace(b"photos"), NAS, choice)
        self.said: list[str] = []
        self.followed: list[int | None] = []
        self.throttling.begin(self.said.append, self.followed.append)
        self.control = LocalControl(
            self.reactor,
            Ends("photos", "nas:inbox"),
            self.throttling,
            Mover(MoveSettings(), self.reactor, Observers([])),
            self.environ,
        )

    def turn(self, work: Any) -> Any:
        """
        Turn the reactor while another thread works; returns its result.
        """
        results: list[Any] = []

        def run() -> None:
            try:
                results.append(work())
            except Exception as error:  # noqa: BLE001  # raised below
                results.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while thread.is_alive():
            self.reactor.iterate(0.01)
        thread.join()
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]

    def ask(self, request: Any) -> dict[str, Any]:
        """
        A request, and its answer.
        """
        answer: dict[str, Any] = self.turn(
            lambda: ask(os.getpid(), request, self.environ)
        )
        return answer

    def stop(self) -> None:
        """
        The move ends.
        """
        done: list[Any] = []
        Deferred.fromCoroutine(self.control.stop()).addBoth(done.append)
        while not done:
            self.reactor.iterate(0.01)
        self.throttling.stop()
        assert not self.reactor.getDelayedCalls()
        self.reactor.removeAll()


@pytest.fixture
def move(tmp_path: Path) -> Iterator[Move]:
    """
    A move to a peer that is limited to 1000 B/s up.
    """
    move = Move(tmp_path, ThrottleChoice(up=Rate(1000)))
    assert move.control.start() == ""
    yield move
    move.stop()


def test_who_asks_nothing_is_sent_away(
    move: Move, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    There is no more than so much room.
    """
    monkeypatch.setattr(local_control, "DEADLINE", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(f"{tmp_path}/realize/{os.getpid()}.sock")
        assert move.turn(lambda: silent.recv(10)) == b""


def test_folder_and_socket_are_the_users_alone(move: Move, tmp_path: Path) -> None:
    """
    Nobody else may get at them; a folder that was open to others is closed.
    """
    folder = tmp_path / "realize"
    assert folder.stat().st_mode & 0o777 == 0o700
    path = folder / f"{os.getpid()}.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    folder.chmod(0o755)
    other = Move(tmp_path, ThrottleChoice())
    assert other.control.start() == ""
    assert folder.stat().st_mode & 0o777 == 0o700
    other.stop()


def test_somebody_elses_folder_is_not_used(tmp_path: Path) -> None:
    """
    A link could lead anywhere.
    """
    (tmp_path / "else").mkdir()
    (tmp_path / "realize").symlink_to(tmp_path / "else")
    move = Move(tmp_path, ThrottleChoice())
    assert "not a directory of this user's" in move.control.start()
    assert not list((tmp_path / "else").iterdir())
    move.stop()


def test_no_folder_no_socket(tmp_path: Path) -> None:
    """
    Without XDG_RUNTIME_DIR that is no trouble; a path that is too long is said.
    """
    move = Move(tmp_path, ThrottleChoice())
    move.control.environ = {}
    assert move.control.start() == ""
    move.stop()
    deep = Move(tmp_path / ("x" * 100), ThrottleChoice())
    assert "too long" in deep.control.start()
    deep.stop()


def test_status(move: Move) -> None:
    """
    What is moved, how far it is, and the limits of the directions that there are.
    """
    answer = move.ask({"ask": "status"})
    assert answer["pid"] == os.getpid()
    assert (answer["source"], answer["destination"]) == ("photos", "nas:inbox")
    assert list(answer["limits"]) == ["up"]
    assert answer["limits"]["up"]["effective"] == 1000


def test_change(move: Move) -> None:
    """
    A limit is set, and told to the mover; for a time, if so asked.
    """
    assert move.ask({"ask": "throttle", "up": 5000})["limits"]["up"]["asked"] == 5000
    assert move.throttling.effective("up") == 5000
    answer = move.ask({"ask": "throttle", "up": None, "seconds": 60})
    assert answer["limits"]["up"]["asked"] is None
    assert 59 < answer["limits"]["up"]["seconds_left"] <= 60


class Slow:
    """
    The connection to a peer that takes its time to answer.

    :ivar answer: what it is told is answered when this has a result.
    """

    peer = "nas"
    throttled: Any = SimpleNamespace(send_rate=1000, receive_rate=None)

    def __init__(self) -> None:
        self.answer: Deferred[None] = Deferred()

    def set_throttle(self, rates: object) -> Deferred[None]:
        """
        Be told.
        """
        return self.answer if rates == {"receive": 5000} else succeed(None)


def test_a_change_does_not_wait_for_what_is_on_its_way() -> None:
    """
    It holds at once, and is answered soon, however long the other end takes to hear of
    it; what is wrong there is told to the user of the move.
    """
    clock, slow = Clock(), Slow()
    said: list[str] = []
    throttling = Throttling(
        clock, LocalPlace(b"photos"), NAS, ThrottleChoice(up=Rate(1000)), quiet=True
    )
    throttling.begin(said.append, lambda rate: None)
    Deferred.fromCoroutine(throttling.attach(slow))  # type: ignore[arg-type]
    answers: list[str] = []
    changing = Deferred.fromCoroutine(throttling.set("up", 5000, None))
    changing.addCallback(answers.append)
    assert throttling.asked("up") == 5000
    clock.advance(TELLING - 0.1)
    assert answers == []
    clock.advance(0.2)
    assert answers == ["nas will know as soon as what is on its way has arrived"]
    slow.answer.errback(NotAllowed("not for you"))
    assert said == ["not for you"]
    assert clock.getDelayedCalls() == []


def test_direction_that_does_not_exist(move: Move) -> None:
    """
    It is said, and changes nothing.
    """
    answer = move.ask({"ask": "throttle", "down": 5000})
    assert "the source is on this host" in answer["said"]
    assert "down" not in answer["limits"]


@pytest.mark.parametrize(
    "request_",
    [
        [],
        {},
        {"ask": "stop"},
        {"ask": "throttle", "up": 5},
        {"ask": "throttle", "up": "1M"},
        {"ask": "throttle", "up": True},
        {"ask": "throttle", "up": 5000, "down": 5},
        {"ask": "throttle", "up": 5000, "seconds": 0},
        {"ask": "throttle", "up": 5000, "seconds": 1.5},
    ],
)
def test_invalid_changes_nothing(move: Move, request_: Any) -> None:
    """
    An error is answered, and the old limit stays.
    """
    assert "error" in move.ask(request_)
    assert move.throttling.asked("up") == 1000


def test_what_is_no_request(move: Move, tmp_path: Path) -> None:
    """
    No JSON is an error, and an endless line the end of the connection.
    """
    path = os.fspath(tmp_path / "realize" / f"{os.getpid()}.sock")

    def send(data: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(path)
            connection.sendall(data)
            return connection.recv(1000)

    assert "error" in json.loads(move.turn(lambda: send(b"{\n")))
    assert move.turn(lambda: send(b"x" * (MAX_LINE + 1))) == b""


@pytest.mark.parametrize(
    "request_",
    [b"[" * 60_000, b'{"ask":' * 8_000, b'{"ask": "throttle", "up": NaN}', b"\xff"],
    ids=["deep lists", "deep objects", "NaN", "no UTF-8"],
)
def test_a_strange_request_ends_that_request_only(
    move: Move, tmp_path: Path, request_: bytes
) -> None:
    """
    More of them than there are places, whose answers nobody reads, keep nobody out.
    """
    path = os.fspath(tmp_path / "realize" / f"{os.getpid()}.sock")
    for _ in range(MAX_CONNECTIONS + 1):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(path)
            connection.sendall(request_ + b"\n")
            assert b'{"error": "' in move.turn(lambda: connection.recv(1000))
    assert move.ask({"ask": "status"})["pid"] == os.getpid()


def test_a_bug_ends_the_connection_that_met_it(move: Move) -> None:
    """
    Nobody waits for an answer that never comes, and the next one is answered.
    """
    ends, move.control.ends = move.control.ends, cast(Ends, None)
    with capturedLogs() as events, pytest.raises(PeerGone, match="as a move does"):
        move.ask({"ask": "status"})
    assert [event["event"] for event in events] == ["bug"]
    move.control.ends = ends
    assert move.ask({"ask": "status"})["pid"] == os.getpid()


class Stranger(threading.Thread):
    """
    Listens where a move would, and answers each request with bytes of its own.

    :param pause: seconds after each byte; 0 for all at once.
    """

    def __init__(self, folder: Path, answer: bytes, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{folder}/4242.sock")
        self._listener.listen()
        self._answer, self._pause = answer, pause
        self.start()

    def run(self) -> None:
        """
        Answer.
        """
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    if connection.recv(65536):
                        size = 1 if self._pause else len(self._answer)
                        for begin in range(0, len(self._answer), size):
                            connection.sendall(self._answer[begin : begin + size])
                            time.sleep(self._pause)


ANSWER: dict[str, Any] = {
    "pid": 4242,
    "source": "a",
    "destination": "b",
    "seconds": 1.0,
    "files": 1,
    "sent": 1,
    "left": 0,
    "complete": True,
    "limits": {},
}


@pytest.mark.parametrize(
    "changed",
    [
        {"files": -1},
        {"files": 2**80},
        {"files": "many"},
        {"seconds": -1},
        {"source": None},
        {"source": "x" * 30_000},
        {"limits": {"sideways": {}}},
        {"limits": {"up": {"rate": 0}}},
        {"limits": [[[]]]},
    ],
)
def test_an_answer_that_is_none(tmp_path: Path, changed: dict[str, object]) -> None:
    """
    Is not shown, whatever is wrong with it.
    """
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    Stranger(tmp_path / "realize", json.dumps(ANSWER | changed).encode())
    with pytest.raises(PeerGone, match="does not answer as a move does"):
        ask(4242, {"ask": "status"}, environ)


def test_what_is_said_is_data(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    No line or sequence of a terminal's comes out of it.
    """
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    answer = ANSWER | {"source": "\x1b]0;x\x07\x1b[2J", "destination": "b\nforged"}
    Stranger(tmp_path / "realize", json.dumps(answer).encode())
    assert status_of(["status", "--local"]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert "forged" in said


def test_one_deadline_for_all_of_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A byte now and then does not make it longer.
    """
    monkeypatch.setattr(local_moves, "ANSWER_DEADLINE", 0.3)
    assert ANSWER_DEADLINE == 5
    Stranger(tmp_path / "realize", b" " * 1000, pause=0.02)
    began = time.monotonic()
    with pytest.raises(PeerGone, match="does not answer"):
        ask(4242, {"ask": "status"}, {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert time.monotonic() - began < 5


def test_a_folder_that_others_may_change(tmp_path: Path) -> None:
    """
    Anybody could have put a socket there, so nobody is asked; nor through a link.
    """
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    folder = tmp_path / "realize"
    Stranger(folder, json.dumps(ANSWER).encode())
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="not a directory of this user's alone"):
        list(running(environ))
    with pytest.raises(ConfigError, match="not a directory of this user's alone"):
        ask(4242, {"ask": "status"}, environ)
    folder.chmod(0o700)
    assert list(running(environ)) == [4242]
    folder.rename(tmp_path / "else")
    folder.symlink_to(tmp_path / "else")
    with pytest.raises(ConfigError, match="not a directory of this user's alone"):
        list(running(environ))


@needs("setpriv", root=True)
def test_a_socket_of_another_user_is_not_asked(tmp_path: Path) -> None:
    """
    Even in a folder that is this user's now: whose it is decides, and who listens.
    """
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    folder = tmp_path / "realize"
    Stranger(folder, json.dumps(ANSWER).encode())
    os.chown(folder / "4242.sock", 65534, 65534)
    assert list(running(environ)) == []
    assert (folder / "4242.sock").exists()
    (folder / "4242.sock").unlink()
    for each in (tmp_path, *tmp_path.parents):
        if not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)
    folder.chmod(0o777)
    listener = subprocess.Popen(
        [*as_user(), sys.executable, "-c", LISTENER, str(folder / "4242.sock")],
        stdout=subprocess.PIPE,
    )
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline()
        folder.chmod(0o700)
        os.chown(folder / "4242.sock", 0, 0)
        assert list(running(environ)) == []
        with pytest.raises(ConfigError, match="another user listens there"):
            ask(4242, {"ask": "status"}, environ)
    finally:
        listener.kill()
        listener.communicate()


LISTENER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("ready", flush=True)
while True:
    listener.accept()
"""


def test_moves_are_found_and_dead_ones_forgotten(move: Move, tmp_path: Path) -> None:
    """
    The socket of a process that was killed is removed.
    """
    dead = tmp_path / "realize" / "1.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(os.fspath(dead))
    (tmp_path / "realize" / "notes.sock").touch()
    assert move.turn(lambda: list(running(move.environ))) == [os.getpid()]
    assert not dead.exists()
    assert (tmp_path / "realize" / "notes.sock").exists()
    with pytest.raises(PeerGone, match="no move"):
        ask(1, {"ask": "status"}, move.environ)


def test_socket_goes_with_its_move(tmp_path: Path) -> None:
    """
    Nothing is left behind.
    """
    move = Move(tmp_path, ThrottleChoice())
    move.control.start()
    move.stop()
    assert not list((tmp_path / "realize").iterdir())


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        (ThrottleChoice(both=Rate(1000)), []),
        (ThrottleChoice(up=Rate(1000), down=Rate(1000)), ["--throttle-down has no"]),
        (ThrottleChoice(down=Rate(None)), ["--throttle-down has no"]),
    ],
)
def test_warnings(tmp_path: Path, choice: ThrottleChoice, says: list[str]) -> None:
    """
    A flag for a direction that does not exist; --throttle is for those that do.
    """
    move = Move(tmp_path, choice)
    assert len(move.said) == len(says)
    for said, text in zip(move.said, says, strict=True):
        assert said.startswith(text)
    move.stop()


def test_between_local_ends_reading_is_limited() -> None:
    """
    Disks are shared too; what holds is said, and can be changed.
    """
    said: list[str] = []
    followed: list[int | None] = []
    throttling = Throttling(
        EPollReactor(),  # type: ignore[abstract]
        LocalPlace(b"a"),
        LocalPlace(b"b"),
        ThrottleChoice(both=Rate(1000)),
    )
    throttling.begin(said.append, followed.append)
    assert said == ["limits: up 1000 B/s"]
    assert (throttling.ways, followed) == (["up"], [1000])
    assert throttling.take(5000) == pytest.approx(5, abs=0.5)
    assert throttling.counted("up") == 5000
    Deferred.fromCoroutine(throttling.set("up", None, None))
    assert throttling.take(5000) == 0
    assert followed[-1] is None
    throttling.stop()


def test_down_means_nothing_between_local_ends() -> None:
    """
    There is one way, from a disk to a disk, and it is up.
    """
    said: list[str] = []
    throttling = Throttling(
        EPollReactor(),  # type: ignore[abstract]
        LocalPlace(b"a"),
        LocalPlace(b"b"),
        ThrottleChoice(down=Rate(1000)),
    )
    throttling.begin(said.append, lambda rate: None)
    assert said == ["--throttle-down has no effect: the source is on this host"]
    assert throttling.take(5000) == 0
    throttling.stop()


@needs(root=True)
def test_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    """
    Whoever owns it could put something else in the socket's place.
    """
    (tmp_path / "realize").mkdir(mode=0o700)
    os.chown(tmp_path / "realize", 65534, 65534)
    move = Move(tmp_path, ThrottleChoice())
    assert "not a directory of this user's" in move.control.start()
    move.stop()
