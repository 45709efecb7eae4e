"""
Metrics of a program that may be gone before anybody asks: pushed to a Pushgateway.

What is pushed is *added* to its group (POST), so that series a run does not export
keep the value of the run before: a failed run never erases the last success.  But a
series that it does export takes the place of all of that name in the group, whatever
their labels; so a group is of one pair of ends, and moves of others keep theirs.
https://github.com/prometheus/pushgateway#api describes the interface.
"""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from attrs import field, frozen
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.web.client import ResponseFailed, readBody
from twisted.web.error import Error as WebError
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from realize.errors import RealizeError
from realize.paths import printable

#: Seconds a push may take in all.
DEADLINE: Final = 10.0


class PushFailed(RealizeError):
    """
    The gateway was not reached in time, or did not take the metrics.

    The next push may work.
    """


@frozen
class Gateway:
    """
    A group of a Pushgateway.

    :ivar url: where the group is, without credentials.
    :ivar authorization: value of the HTTP header; empty without credentials.
    """

    url: bytes
    authorization: bytes = field(repr=False)

    @classmethod
    def parse(
        cls, url: str, job: str, instance: str, labels: Mapping[str, str]
    ) -> Gateway:
        """
        :param url: of the gateway, ``http://`` or ``https://``, perhaps with
            ``USER:PASSWORD@``.
        :param labels: that tell the group from others of this job and instance.
        :raises ValueError: *url* is no such thing; the text has no credentials.
        """
        try:
            parts = urlsplit(url)
            port = f":{parts.port}" if parts.port is not None else ""
        except ValueError:
            raise ValueError("the port of the gateway's URL is not a number") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected a URL such as http://gateway.example:9091")
        if parts.query or parts.fragment:
            raise ValueError("the gateway's URL ends with its path")
        if not job:
            raise ValueError("the job needs a name")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        key = {"job": job, "instance": instance, **labels}
        group = "/metrics/" + "/".join(_label(*each) for each in key.items())
        path = parts.path.rstrip("/") + group
        shown = urlunsplit((parts.scheme, host + port, path, "", ""))
        authorization = b""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = b"Basic " + b64encode(pair.encode("utf-8"))
        return cls(shown.encode("ascii"), authorization)


def _label(name: str, value: str) -> str:
    if value and "/" not in value:
        return f"{name}/{quote(value, safe='')}"
    encoded = urlsafe_b64encode(value.encode("utf-8")).decode("ascii")
    return f"{name}@base64/{encoded or '='}"


def _why(error: CancelledError | ResponseFailed, where: str) -> Exception:
    """
    What to raise: the agent hides a cancellation among the reasons for a failure.
    """
    reasons = [reason.value for reason in getattr(error, "reasons", ())]
    if not reasons or any(isinstance(each, CancelledError) for each in reasons):
        return CancelledError()
    return PushFailed(f"{where}: {'; '.join(map(str, reasons))}")


@implementer(IBodyProducer)
class _Body:
    """
    A request's body that is in memory already.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """
        Too late: everything was written at once.
        """

    resumeProducing = stopProducing = pauseProducing


@frozen
class Pusher:
    """
    Adds what a registry holds to a group of a gateway.
    """

    gateway: Gateway
    registry: CollectorRegistry
    agent: IAgent
    clock: IReactorTime

    async def push(self) -> None:
        """
        Push once, within :data:`DEADLINE` seconds.

        :raises PushFailed: it did not work; the text has no credentials.
        """
        headers = Headers({b"Content-Type": [CONTENT_TYPE_PLAIN_0_0_4.encode()]})
        if self.gateway.authorization:
            headers.setRawHeaders(b"Authorization", [self.gateway.authorization])
        body = _Body(generate_latest(self.registry))
        posting = Deferred.fromCoroutine(self._post(headers, body))
        # Set before waiting, so that a cancellation from outside stays one.
        timer = self.clock.callLater(DEADLINE, posting.cancel)
        where = self.gateway.url.decode("ascii")
        try:
            code, answer = await posting
        except (CancelledError, ResponseFailed) as error:
            if not timer.active():
                raise PushFailed(f"{where}: no answer in {DEADLINE:.0f} s") from None
            raise _why(error, where) from None
        except (ConnectError, DNSLookupError, OSError, WebError) as error:
            raise PushFailed(f"{where}: {error}") from None
        finally:
            if timer.active():
                timer.cancel()
        if code // 100 != 2:
            reason = printable(answer[:200].strip())
            raise PushFailed(f"{where}: answered {code}: {reason}")

    async def _post(self, headers: Headers, body: IBodyProducer) -> tuple[int, bytes]:
        response = await self.agent.request(b"POST", self.gateway.url, headers, body)
        return response.code, await readBody(response)
