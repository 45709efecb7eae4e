"""
One connection: boxes and payloads in both directions, within bounds, alive or closed.

Built from AMP's parts, without the class ``AMP`` that puts them together: that one
brings commands that strangers must not use (``StartTLS``), parses without bounds, and
queues without end.

What holds for everything here:

- Bytes are looked at in one place, :meth:`Link._parse`, that never calls itself.  It
  stops while reading is paused, and is started again from the reactor only: a request
  that is answered at once, from inside it, would have the same bytes looked at twice.
- A request is begun, as far as its responder goes without waiting, before the box
  after it is looked at.  So stores see operations in the order in which they were sent.
  A payload that has to be decompressed first, in a thread, holds up what comes after.
- An error that nobody planned answers that request only.  Something that is not the
  protocol ends the connection.
"""

from __future__ import annotations

import socket
from typing import Any, Final, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols import amp
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from txaio.tx import make_logger
from zope.interface import implementer

from realize.errors import InternalError, PeerError, PeerGone, RealizeError
from realize.memory import unwritten
from realize.net.throttled import ThrottledConnection, throttled_below
from realize.net.tls import close_transport
from realize.observe.events import REQUEST_ANSWERED, REQUEST_MADE, Event
from realize.observe.metrics import CommandMetrics
from realize.texts import Label, Line
from realize.wire import commands
from realize.wire.complaints import Complaints
from realize.wire.compression import ZSTD, Compression, LineRate, Outgoing
from realize.wire.flow import Budget, Intake, Outbox
from realize.wire.payload import (
    MAX_PAYLOAD,
    PAYLOAD,
    Malformed,
    Packed,
    parse_number,
    payload_length,
    take_box,
)

#: A side that has sent nothing for this many seconds says that it is alive.
ALIVE_AFTER: Final = 30

#: A connection on which nothing was heard for this many seconds is dead.
SILENCE: Final = 180

#: Seconds that the first command may take, on either side.
WELCOME_DEADLINE: Final = 10

#: TCP asks after this many idle seconds whether the peer is there, then at this
#: interval, and gives up after as many questions without an answer.
KEEPALIVE_IDLE: Final = 60
KEEPALIVE_INTERVAL: Final = 10
KEEPALIVE_COUNT: Final = 6

#: Bytes that TCP takes beyond what it has sent.  More would only lie there: out of
#: reach of a limit that changes, and in front of what is written later.
UNSENT: Final = 256 * 1024

#: The option's number on Linux; Python's module has no name for it.
TCP_NOTSENT_LOWAT: Final = 25

#: The codes of our errors, and of AMP's own.
_CODES: Final = {*commands.WIRE_ERRORS.values(), *amp.PROTOCOL_ERRORS}

_LONGEST_NAME = max(map(len, commands.COMMANDS)) + 64

# What these have begun has to be ended in order, also when nobody waits for it.
_NEVER_CANCELLED = frozenset(
    kind.commandName
    for kind in (commands.OpenSource, commands.OpenDestination, commands.CloseStore)
)


@implementer(IHandshakeListener, amp.IBoxSender)
class Link(Protocol, amp.BoxDispatcher, amp.CommandLocator):
    """
    Either end of a connection; subclasses have the responders.

    :param budget: what all connections of the process may hold together.
    :param metrics: where requests are counted.
    :param compression: how payloads are compressed; None if this end cannot.
    :ivar peer: who is at the other end, for people.
    :ivar throttled: the connection below TLS, with its limits.
    :ivar heard: when something last arrived, by the clock.
    :ivar progress: when something other than a sign of life last arrived.
    :ivar ended: whether the connection is closed, or about to be.
    :ivar gone: whether the transport has said so.
    """

    log = make_logger()

    def __init__(
        self,
        clock: IReactorTime,
        budget: Budget,
        complaints: Complaints,
        metrics: CommandMetrics,
        compression: Compression | None = None,
    ) -> None:
        amp.BoxDispatcher.__init__(self, self)
        self._compression = compression
        #: A payload is being decompressed; reading may be stopped until it is.
        self._decompressing = self._swollen = False
        self._metrics = metrics
        self.throttled: ThrottledConnection
        self.clock = clock
        self.complaints = complaints
        self.peer = "unknown peer"
        self.heard = self.progress = self._sent = clock.seconds()
        self.ended = self.gone = False
        self._why: RealizeError | None = None
        self._budget = budget
        self._boxes = bytearray()
        self._box: amp.AmpBox | None = None
        #: Where its payload is put, and how much of that is there.
        self._payload = memoryview(b"")
        self._have = 0
        self._running: set[Deferred[Any]] = set()
        self._timer: IDelayedCall | None = None
        self._await_gone: list[Deferred[None]] = []
        self._closing: IDelayedCall | None = None

    # -- the connection

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self.throttled = throttled_below(transport)
        _tune(transport)
        self._intake = Intake(transport, self.clock, self._budget, self._read_on)
        self._outbox = Outbox(transport, self._intake.unread_changed)
        self._outgoing = Outgoing(
            self._compression,
            self._outbox,
            self.throttled,
            self._write_box,
            self._intake.unread_changed,
            LineRate(self.clock),
        )
        self.startReceivingBoxes(self)

    def handshakeCompleted(self) -> None:
        """
        The peer has proved who it is.
        """
        cast(Any, self.transport).registerProducer(self._outbox, True)
        self._set_timer(WELCOME_DEADLINE, self._welcome_too_late)

    def greeted(self) -> None:
        """
        The first command was answered: from now on both sides show signs of life,
        and keep to the limits.
        """
        self.throttled.begin_holding()
        self._beat()

    def close(self, await_goodbye: bool = True) -> None:
        """
        Close once what was written has been sent, within seconds in any case.

        :param await_goodbye: as of :func:`~realize.net.tls.close_transport`.
        """
        if not self.ended:
            self._outgoing.release()
            self._outbox.release()
            self.ended = True
            self._set_timer(None)
            self._closing = close_transport(self.transport, self.clock, await_goodbye)

    def close_and_wait(self) -> Deferred[None]:
        """
        Close, and fire when the transport has said so.

        That takes a round trip only if the peer has not answered every request: then
        it may not have read all that was written yet.
        """
        self.close(await_goodbye=bool(self._outstandingRequests))
        waiting: Deferred[None] = Deferred()  # closing goes on if nobody waits
        if self.gone:
            waiting.callback(None)
        else:
            self._await_gone.append(waiting)
        return waiting

    def abort(self, why: RealizeError) -> None:
        """
        Close at once.  Nothing that arrives is looked at any more.

        :param why: what those who wait for answers get.
        """
        self._why = self._why or why
        self.ended = True
        self._set_timer(None)
        if not self.gone:
            cast(Any, self.transport).abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = self.gone = True
        self._set_timer(None)
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self._outgoing.clear()
        self._outbox.stopProducing()
        self._intake.stop()
        for running in list(self._running):
            running.cancel()
        self.stopReceivingBoxes(Failure(self.lost(reason)))
        for waiting in self._await_gone:
            waiting.callback(None)

    def lost(self, reason: Failure) -> RealizeError:
        """
        What the end of the connection means to those who wait for answers.
        """
        return self._why or PeerGone(
            f"{self.peer}: the connection was lost: {reason.getErrorMessage()}"
        )

    @property
    def sending(self) -> bool:
        """
        Whether something waits to be sent.
        """
        return (
            self._outbox.paused or self.throttled.queued > 0 or self._outgoing.waiting
        )

    # -- signs of life

    def _set_timer(self, seconds: float | None, call: Any = None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if seconds is None else self.clock.callLater(seconds, call)

    def _welcome_too_late(self) -> None:
        self.abort(
            PeerGone(f"{self.peer}: no words of welcome in {WELCOME_DEADLINE} s")
        )

    @commands.Alive.responder
    def alive(self) -> dict[str, Any]:
        """
        That it arrived is all.
        """
        return {}

    def _beat(self) -> None:
        now = self.clock.seconds()
        if self._outbox.paused:
            self._sent = now  # what waits there is a sign of life, once it gets through
        if now - self._sent >= ALIVE_AFTER:
            self.callRemote(commands.Alive)
        if self._intake.paused or self._swollen:
            self.heard = now
        if now - self.heard >= SILENCE:
            self.abort(PeerGone(f"{self.peer}: nothing heard for {SILENCE} s"))
        else:
            wait = min(self._sent + ALIVE_AFTER, self.heard + SILENCE) - now
            self._set_timer(wait, self._beat)

    # -- what arrives

    def dataReceived(self, data: bytes) -> None:
        self.heard = self.clock.seconds()
        if self.ended:
            return  # closing takes seconds, in which a peer could send gigabytes
        self._intake.arrived()
        if self._box is None:
            self._boxes += data
        else:
            self._add(data)
        if self._decompressing:
            if len(self._boxes) > MAX_PAYLOAD:
                # Threads always get on, so nobody waits for each other here.  Paused
                # with each piece: the intake may have resumed reading meanwhile.
                self._swollen = True
                cast(Any, self.transport).pauseProducing()
            return
        self._parse()

    def room(self) -> memoryview | None:
        """
        See :class:`realize.net.records.Roomy`: a payload is decrypted where it stays.
        """
        if self._box is None or self.ended:
            return None
        return self._payload[self._have :] or None

    def filled(self, count: int) -> None:
        """
        See :class:`realize.net.records.Roomy`.
        """
        # An answer that arrives slowly is one all the same.
        self.heard = self.progress = self.clock.seconds()
        self._have += count
        if self._have == len(self._payload):
            self._parse()

    def _add(self, data: bytes) -> None:
        """
        Put bytes into the payload, as many as belong to it.
        """
        self.progress = self.heard
        end = min(len(self._payload), self._have + len(data))
        count = end - self._have
        self._payload[self._have : end] = data[:count]
        self._have = end
        self._boxes += data[count:]

    def _read_on(self) -> None:
        self.heard = self.clock.seconds()
        self._parse()

    def _parse(self) -> None:
        try:
            while not (self._intake.paused or self.ended or self._decompressing):
                box = self._next_box()
                if box is None:
                    return
                if ZSTD in box:
                    self._decompress(box)
                else:
                    self.ampBoxReceived(box)
        except Malformed as error:
            self.broken(str(error))

    def _next_box(self) -> amp.AmpBox | None:
        """
        The next box with its payload, if both are there.
        """
        if self._box is None:
            box = take_box(self._boxes)
            length = None if box is None else payload_length(box)
            if box is None or length is None:
                return box
            if len(self._boxes) >= length:
                box[PAYLOAD] = bytes(self._boxes[:length])
                del self._boxes[:length]
                return box
            self._box, self._have = box, len(self._boxes)
            self._payload = memoryview(unwritten(length))
            self._payload[: self._have] = self._boxes
            self._boxes.clear()
        if self._have < len(self._payload):
            return None
        box, self._box = self._box, None
        payload: Any = self._payload.toreadonly()
        self._payload = memoryview(b"")
        box[PAYLOAD] = payload
        return box

    def _decompress(self, box: amp.AmpBox) -> None:
        payload: Any = box.get(PAYLOAD, b"")
        length = parse_number(box.pop(ZSTD))
        shared = self._compression
        if shared is None or not 0 < length <= MAX_PAYLOAD:
            raise Malformed("compressed data that was not agreed on, or is too long")
        self._decompressing = True
        running = shared.workers.run(shared.codec.decompress, payload, length)
        running.addCallback(self._decompressed, box, length, len(payload))
        running.addErrback(self._not_decompressed)

    def _decompressed(
        self, payload: bytes, box: amp.AmpBox, length: int, crossed: int
    ) -> None:
        self._decompressing = False
        if self.ended or self._compression is None:
            return
        self._compression.count("received", length, crossed - (len(payload) - length))
        box[PAYLOAD] = payload
        self.ampBoxReceived(box)
        if self._swollen:
            self._swollen = False
            self.heard = self.clock.seconds()
            if not self._intake.paused:
                cast(Any, self.transport).resumeProducing()
        self._parse()

    def _not_decompressed(self, failure: Failure) -> None:
        self._decompressing = False
        if not self.ended:
            self.broken(failure.getErrorMessage())

    def broken(self, why: str) -> None:
        """
        The peer does not keep to the protocol: close at once.
        """
        self.abort(PeerGone(f"{self.peer} broke the protocol: {why}"))

    def ampBoxReceived(self, box: amp.AmpBox) -> None:
        name = box.get(amp.COMMAND)
        if name != commands.Alive.commandName:
            self.progress = self.heard
        if name is not None:
            command = commands.COMMANDS.get(name)
            if len(name) > _LONGEST_NAME or (amp.ASK in box) != (
                command is None or command.requiresAnswer
            ):
                raise Malformed("a request that cannot be answered as it should be")
            if not self.may_ask(command):
                raise Malformed("a request before the welcome")
        elif amp.ERROR in box:
            _tidy_error(box)
        try:
            super().ampBoxReceived(box)
        except (KeyError, amp.NoEmptyBoxes):
            raise Malformed("a box that is no request, or answers none") from None

    def may_ask(self, command: type[commands.Request] | None) -> bool:
        """
        Whether the peer may send a request, None for one that we do not know.
        """
        return True

    # -- requests

    def dispatchCommand(self, box: amp.AmpBox) -> Deferred[Any]:
        """
        Begin a request, and see to it that its answer is one that AMP can send.
        """
        nbytes = len(box.get(PAYLOAD, b""))
        name = box[amp.COMMAND]
        known = name.decode() if name in commands.COMMANDS else commands.UNKNOWN
        began = self.clock.seconds()
        self._metrics.begin(known)
        self._intake.begin(nbytes)
        running: Deferred[Any] = super().dispatchCommand(box)
        if name not in _NEVER_CANCELLED:
            self._running.add(running)

        def done(result: Any) -> Any:
            self._running.discard(running)
            self._intake.end(nbytes)
            seconds, code = self.clock.seconds() - began, _code(result)
            self._metrics.end(known, seconds, code)
            self._log_request(REQUEST_ANSWERED, known, seconds, code)
            return result

        running.addErrback(self._unplanned, known)
        return running.addBoth(done)

    def _unplanned(self, failure: Failure, command: str) -> Failure:
        """
        Turn what no responder may raise into an answer that keeps the connection.
        """
        if failure.check(amp.RemoteAmpError):
            return failure
        if failure.check(Malformed):
            self.broken(f"{command}: {failure.getErrorMessage()}")
        elif not (self.ended and failure.check(CancelledError)):
            self.complaints.failed(self.peer, command, failure)
        text = f"{command} failed in an unforeseen way; the other end's log says more"
        code = InternalError.code.encode()
        return Failure(amp.RemoteAmpError(code, text, local=failure))

    def unhandledError(self, failure: Failure) -> None:
        """
        Called by AMP for the error of a request that wanted no answer.
        """
        if not self.ended:
            self.broken(failure.getErrorMessage())

    # -- what is sent

    def sendBox(self, box: amp.AmpBox) -> None:
        """
        Send a box and, right after it, its payload.
        """
        if self.ended:
            raise ConnectionLost
        self._sent = self.clock.seconds()
        is_answer = amp.COMMAND not in box
        if amp.ERROR in box:
            _tidy_error(box)
        packed: Any = box.pop(PAYLOAD, None)
        self._outgoing.send(
            box, packed if isinstance(packed, Packed) else None, is_answer
        )

    def _write_box(
        self, box: amp.AmpBox, packed: Packed | None, is_answer: bool
    ) -> None:
        if packed is None:
            self._outbox.send(box.serialize(), b"", is_answer)
            return
        box[PAYLOAD] = b"%d" % len(packed)
        self._outbox.send(box.serialize() + packed.head, packed.data, is_answer)

    async def ask(self, command: type[commands.Request], **arguments: Any) -> Any:
        """
        Send a request and wait for its answer.

        :raises PeerError: the answer is an error.
        :raises RealizeError: the connection was lost, or the answer makes no sense.
        """
        name = command.commandName.decode()
        began = self.clock.seconds()
        code: str | None = commands.LOST
        self._metrics.begin(name)
        try:
            answer = await self._ask(command, **arguments)
        except PeerError as error:
            code = error.code
            raise
        else:
            code = None
            return answer
        finally:
            seconds = self.clock.seconds() - began
            self._metrics.end(name, seconds, code)
            self._log_request(REQUEST_MADE, name, seconds, code)

    def _log_request(
        self, event: Event, command: str, seconds: float, code: str | None
    ) -> None:
        event.log(
            self.log,
            command=command,
            peer=self.peer,
            seconds=seconds,
            outcome=code or "done",
        )

    async def _ask(self, command: type[commands.Request], **arguments: Any) -> Any:
        try:
            return await self.callRemote(command, **arguments)
        except Malformed as error:
            self.broken(f"answer to {command.__name__}: {error}")
            raise self._why or error from None
        except ConnectionLost:
            raise self._why or PeerGone(
                f"{self.peer}: the connection is closed"
            ) from None
        except amp.UnhandledCommand:
            name = command.commandName.decode()
            raise InternalError(f"{self.peer} does not know {name}") from None


def _tidy_error(box: amp.AmpBox) -> None:
    """
    Make the text of an error a line, on its way out and on its way in, and its code
    one that there is.
    """
    text = Line.read(box.get(amp.ERROR_DESCRIPTION, b""))
    code = box.get(amp.ERROR_CODE)
    if code is not None and code not in _CODES:
        text = Line(f"{Label.read(code)}: {text}")
        box[amp.ERROR_CODE] = InternalError.code.encode()
    box[amp.ERROR_DESCRIPTION] = text.encode()


def _code(result: Any) -> str | None:
    """
    The code of the error that a request is answered with, if it is one.
    """
    if not isinstance(result, Failure):
        return None
    code = getattr(result.value, "errorCode", b"").decode()
    return code if code.encode() in commands.WIRE_ERRORS.values() else commands.LOST


def _tune(transport: Any) -> None:
    """
    Set a TCP connection, if there is one below, to send at once and to notice when
    the other host is gone.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    if not ITCPTransport.providedBy(transport):
        return
    handle = cast(Any, transport).getHandle()
    if isinstance(handle, socket.socket) and handle.family == socket.AF_UNIX:
        return  # whoever carries it to the other host sees to that
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    if isinstance(handle, socket.socket):
        for option, value in (
            (socket.TCP_KEEPIDLE, KEEPALIVE_IDLE),
            (socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL),
            (socket.TCP_KEEPCNT, KEEPALIVE_COUNT),
            (TCP_NOTSENT_LOWAT, UNSENT),
        ):
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
