"""
Which events pass, in general and by area.
"""

from __future__ import annotations

import pytest
from twisted.logger import LogLevel

from realize.observe.levels import Levels


@pytest.mark.parametrize(
    "text", ["info", "debug", "info,wire=debug", "warn,store=debug,net=error"]
)
def test_levels_show_as_they_are_written(text: str) -> None:
    """
    What was parsed prints as it can be parsed again.
    """
    assert str(Levels.parse(text)) == text
    assert Levels.parse(str(Levels.parse(text))) == Levels.parse(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("loud", "unknown log level 'loud'"),
        ("", "unknown log level ''"),
        ("info,wires=debug", "unknown log area 'wires'"),
        ("info,warn", "two log levels, 'info' and 'warn'"),
        ("wire=info,wire=debug", "two log levels for 'wire'"),
        ("wire=", "unknown log level ''"),
    ],
)
def test_unclear_levels_are_refused(text: str, complaint: str) -> None:
    """
    The complaint says what is wrong.
    """
    with pytest.raises(ValueError, match=complaint):
        Levels.parse(text)


@pytest.mark.parametrize(
    ("namespace", "level", "passes"),
    [
        ("realize.wire.payload", LogLevel.debug, True),
        ("realize.store.commit", LogLevel.debug, False),
        ("realize.store.commit", LogLevel.info, True),
        ("realize.net.tls", LogLevel.info, False),
        ("realize.net.tls", LogLevel.warn, True),
        ("realize.net.tls", LogLevel.critical, True),
        ("twisted.internet.tcp", LogLevel.info, True),
        ("twisted.internet.tcp", LogLevel.debug, False),
        ("-", LogLevel.info, True),
    ],
)
def test_an_area_can_be_louder_or_quieter(
    namespace: str, level: object, passes: bool
) -> None:
    """
    The area is the package below ``realize`` in the logger's name.
    """
    levels = Levels.parse("info,wire=debug,net=warn")
    assert levels.allow(namespace, level) is passes
    assert levels.most_verbose == "debug"
