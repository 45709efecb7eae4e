"""
Ends that do not answer, and the end that comes all the same.
"""

from __future__ import annotations

import queue
import threading

import pytest
from twisted.internet.task import Clock

from realize.cli import answering
from realize.cli.answering import SAID, answered
from realize.cli.deadline import Deadline
from realize.cli.listening import SAID_AGAIN, Listening


def test_said_once_in_a_while_and_when_it_is_over() -> None:
    """
    Within ten seconds, and no more than once a minute.
    """
    clock, said = Clock(), []
    silent = {"the disk of a": 0.0, "the disk of b": 0.0}
    listening = Listening(lambda: silent.items(), said.append, clock)
    listening.start()
    for _ in range(SAID):
        assert said == []
        silent["the disk of a"] += 1
        clock.advance(1)
    assert said == [f"no answer from the disk of a for {SAID} s"]
    for _ in range(int(SAID_AGAIN)):
        assert len(said) == 1
        silent["the disk of a"] += 1
        clock.advance(1)
    assert said[1:] == [f"no answer from the disk of a for {SAID + SAID_AGAIN:.0f} s"]
    silent["the disk of a"] = 0
    clock.advance(1)
    assert said[2:] == ["the disk of a answers again"]
    listening.stop()
    assert clock.getDelayedCalls() == []


def test_the_end_at_its_time() -> None:
    """
    From another thread, with the status that belongs to it; not if it was lifted.
    """
    ended: queue.Queue[int] = queue.Queue()
    deadline = Deadline(ended.put)
    deadline.set(3600, 7)
    deadline.lift()
    deadline.set(0, 11)
    assert ended.get(timeout=30) == 11
    assert ended.empty()
    assert not [each for each in threading.enumerate() if not each.daemon][1:]


def test_what_answers_is_answered() -> None:
    """
    With its result, or its error.
    """
    assert answered(lambda: 5, pytest.fail) == 5
    with pytest.raises(ZeroDivisionError):
        answered(lambda: 1 // 0, pytest.fail)


def test_what_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    And waited for.
    """
    monkeypatch.setattr(answering, "SAID", 0)
    said, go_on = [], threading.Event()

    def say(text: str) -> None:
        said.append(text)
        go_on.set()

    assert answered(lambda: go_on.wait(30), say)
    assert said == ["no answer from a disk for 0 s"]
