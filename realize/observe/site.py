"""
The page that Prometheus reads: ``/metrics`` over HTTP, and nothing else.

twisted.web spools the body of any request to disk before asking what to do with it,
and waits for slow clients without end; what is here refuses the one and bounds the
other.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import INTERNAL_SERVER_ERROR, NOT_ALLOWED, UNAUTHORIZED
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from txaio.tx import make_logger

from realize.observe.events import BUG

PATH: Final = b"/metrics"

#: Most connections at a time, and the seconds each may take from first to last byte.
MAX_CONNECTIONS: Final = 32
DEADLINE: Final = 10.0

#: Runs a function in a thread.
InThread = Callable[[Callable[[], bytes]], "Deferred[bytes]"]


class MetricsResource(Resource):
    """
    Answers GET and HEAD of :data:`PATH` with what a registry holds.

    Every other path is answered 401, other methods 405.

    :param in_thread: where the page is made, so that the reactor is not held up.
    :param refresh: called before each page, in the reactor's thread: takes the values
        that nobody keeps up to date.
    """

    isLeaf = True
    log = make_logger()

    def __init__(
        self,
        registry: CollectorRegistry,
        in_thread: InThread,
        refresh: Callable[[], object],
    ) -> None:
        super().__init__()
        self._registry = registry
        self._in_thread = in_thread
        self._refresh = refresh

    def render(self, request: Request) -> bytes | int:
        """
        Answer one request.
        """
        request.setHeader(b"Connection", b"close")
        if request.path != PATH:
            request.setHeader(b"WWW-Authenticate", b'Basic realm="realize"')
            return _answer(request, UNAUTHORIZED, b"only /metrics is served here\n")
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return _answer(request, NOT_ALLOWED, b"GET or HEAD\n")
        Deferred.fromCoroutine(self._send_page(request))
        return NOT_DONE_YET

    async def _send_page(self, request: Request) -> None:
        gone = request.notifyFinish()
        gone.addErrback(lambda failure: None)
        encode, content_type = choose_encoder(request.getHeader("Accept") or "")
        compress = gzip_accepted(request.getHeader("Accept-Encoding") or "")

        def page() -> bytes:
            text = encode(self._registry)
            return gzip.compress(text, compresslevel=1) if compress else text

        try:
            self._refresh()
            body = await self._in_thread(page)
        except Exception:  # noqa: BLE001  # any collector may fail in any way
            failure = Failure()
            BUG.log_failure(
                self.log, failure, what="The metrics page", error=repr(failure.value)
            )
            body = _answer(request, INTERNAL_SERVER_ERROR, b"see the log\n")
        else:
            request.setHeader(b"Content-Type", content_type.encode("ascii"))
            if compress:
                request.setHeader(b"Content-Encoding", b"gzip")
            request.setHeader(b"Vary", b"Accept, Accept-Encoding")
        if not gone.called:
            request.setHeader(b"Content-Length", b"%d" % len(body))
            request.write(body)
            request.finish()


def _answer(request: Request, code: int, text: bytes) -> bytes:
    request.setResponseCode(code)
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    return text


class _BodilessRequest(Request):
    """
    A request that is refused as soon as it turns out to have a body.
    """

    _refused = False

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        if length == 0:
            return
        self._refused = True
        # Or the channel would invite the body that nobody wants.
        self.requestHeaders.removeHeader(b"Expect")
        self.channel.write(
            b"HTTP/1.1 413 Content Too Large\r\n"
            b"Connection: close\r\nContent-Length: 0\r\n\r\n"
        )
        self.channel.loseConnection()

    def handleContentChunk(self, data: bytes) -> None:
        """
        Nothing of a body is kept.
        """

    def process(self) -> None:
        if not self._refused:
            super().process()


class _QuietSite(Site):
    noisy = False

    def startFactory(self) -> None:
        """
        No timer that tells the time to a log each second: there is no such log.
        """

    def log(self, request: object) -> None:
        """
        A scrape is not worth a line in the log.
        """


class _BoundedConnection(ProtocolWrapper):
    factory: _BoundedFactory
    _deadline: IDelayedCall | None = None

    def makeConnection(self, transport: Any) -> None:
        self._deadline = self.factory.clock.callLater(
            DEADLINE, transport.abortConnection
        )
        super().makeConnection(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        super().connectionLost(reason)


class _BoundedFactory(WrappingFactory[_BoundedConnection]):
    """
    At most :data:`MAX_CONNECTIONS`, each cut off at :data:`DEADLINE`.
    """

    protocol = _BoundedConnection
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, clock: IReactorTime) -> None:
        super().__init__(wrapped)
        self.clock = clock

    def buildProtocol(  # type: ignore[override]  # None refuses the connection
        self, addr: IAddress | None
    ) -> IProtocol | None:
        if len(self.protocols) >= MAX_CONNECTIONS:
            return None
        return super().buildProtocol(addr)


def metrics_site(
    registry: CollectorRegistry,
    in_thread: InThread,
    clock: IReactorTime,
    refresh: Callable[[], object] = lambda: None,
) -> IProtocolFactory:
    """
    The factory to listen with.

    :param in_thread: runs a function in a thread and answers with its result.
    :param refresh: as of :class:`MetricsResource`.
    """
    page = MetricsResource(registry, in_thread, refresh)
    site = _QuietSite(page, requestFactory=_BodilessRequest, reactor=clock)
    return _BoundedFactory(site, clock)
