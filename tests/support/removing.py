"""
What tests of removals share: a guard that meddles, and short words for one removal.
"""

from __future__ import annotations

import os

from blake3 import blake3

from realize.model import Failure, Removal, Removed
from realize.store.guard import Guard
from tests.support.files import identity_at, in_a_minute

CONTENT = b"hello world"


class Meddling(Guard):
    """
    A guard that lets something happen to a file after its first look at it, and again
    just before its last.
    """

    def __init__(self):
        super().__init__(0, lambda reason: None, in_a_minute)
        self.after_open = lambda: None
        self.before_last_look = lambda: None

    def open_leased(self, *args, **options):
        """
        Open, and then it happens.
        """
        result = super().open_leased(*args, **options)
        self.after_open()
        return result

    def is_unbroken(self, fd):
        """
        It happens, and then look.
        """
        self.before_last_look()
        return super().is_unbroken(fd)


class Warnings:
    """
    What the remover complained of.
    """

    def __init__(self):
        self.lacks = []

    def __call__(self, lack, reason):
        """
        Note it.
        """
        self.lacks.append((lack, reason))


def removal(tree, path, step="hide"):
    """
    What removes the file that is there now.
    """
    name = os.fsencode(path.relative_to(tree))
    return Removal(name, identity_at(path), blake3(CONTENT).digest(), step)


def one(remover, item):
    """
    The answer for one file, or the error.
    """
    (answer,) = remover.remove([item])
    if isinstance(answer, Failure):
        raise answer.error
    return answer


def remove(remover, items):
    """
    The answers for files that are removed in both steps.
    """
    answers = remover.remove(items)
    hidden = [
        each
        for each, answer in zip(items, answers, strict=True)
        if isinstance(answer, Removed) and answer.found
    ]
    unlinked = iter(remover.remove([step(each, "unlink") for each in hidden]))
    return [
        next(unlinked) if isinstance(answer, Removed) and answer.found else answer
        for answer in answers
    ]


def whole(remover, item):
    """
    The answer for one file that is removed in both steps, or the error.
    """
    (answer,) = remove(remover, [item])
    if isinstance(answer, Failure):
        raise answer.error
    return answer


def hides(remover, item):
    """
    Whether a file was found, and is hidden; with a mark.
    """
    answer = one(remover, item)
    assert bool(answer.mark) == answer.found
    return answer.found


def step(item, word):
    """
    Another step of the same removal.
    """
    return Removal(item.path, item.identity, item.digest, word)
