"""yt-dlp's connections: with a tape at the socket, and dialled only where the guard allows.

Built on private names of yt_dlp.networking._urllib; tests/test_media.py holds what is relied on. urllib opens a
connection for each request ("Connection: close"), so a connection is an exchange.
"""

import hashlib
import http.client
import io
import socket
import ssl
import urllib.request
from functools import partial
from typing import Any, cast

import yt_dlp.networking._urllib as ytdlp_urllib

from osint_pipeline.fetch import tunnel
from osint_pipeline.fetch.guard import AddressRefused, NameUnknown
from osint_pipeline.fetch.media_tee import Tape, Tee
from storage.exchange import Truncated

DIAL_SECONDS = 15.0


class NotDialled(OSError):
    """A connection was not made; `word` names why, as Exchange.failure does."""

    def __init__(self, word: str, why: str) -> None:
        super().__init__(why)
        self.word = word


def dial(tee: Tee, host: str, port: int) -> socket.socket:
    """Connect to an address that the guard allowed, or to the proxy; raise NotDialled."""
    try:
        if tee.exit is not None:
            tee.guard.check_url(f"http://[{host}]/" if ":" in host else f"http://{host}/")
            return tunnel.dial(tee.exit, tunnel.talk(tee.exit, host, port), seconds=DIAL_SECONDS)
        addresses = tee.guard.resolve(host, port)
    except AddressRefused as error:
        tee.refused.append(error)
        raise NotDialled("address-refused", str(error)) from error
    except NameUnknown as error:
        raise NotDialled("name-unknown", str(error)) from error
    except tunnel.TunnelFailed as error:
        raise NotDialled(error.word if error.word == "timeout" else f"proxy-{error.word}", error.why) from error
    return _dial_first(addresses, port)


def _dial_first(addresses: tuple[str, ...], port: int) -> socket.socket:
    last: OSError | None = None
    for address in addresses:
        try:
            return socket.create_connection((address, port), DIAL_SECONDS)
        except OSError as error:
            last = error
    raise NotDialled(_word(last), str(last)) from last


def _word(error: OSError | None) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLError):
        return "tls"
    return "refused" if isinstance(error, ConnectionRefusedError) else "unreachable"


class _Raw(io.RawIOBase):
    """The reading side of a connection: what is read goes to the tape as well."""

    def __init__(self, inner: io.RawIOBase, tape: Tape) -> None:
        self._inner, self._tape = inner, tape
        tape.raw = inner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        view = memoryview(buffer)
        view = view[: self._tape.tee.allow(self._tape)]
        try:
            size = cast(int | None, self._inner.readinto(view))
        except TimeoutError:
            self._tape.truncated, self._tape.failure = Truncated.TIME, "timeout"
            raise
        except OSError:
            self._tape.truncated, self._tape.failure = Truncated.DISCONNECT, "disconnect"
            raise
        self._tape.ended = size == 0
        self._tape.took(view[: size or 0])
        return size

    def close(self) -> None:
        if not self.closed:
            self._tape.seal()
            self._inner.close()
            super().close()


class _Socket:
    """As much of a socket as http.client uses."""

    def __init__(self, inner: socket.socket, tape: Tape) -> None:
        self._inner, self._tape = inner, tape

    def sendall(self, data: bytes) -> None:
        self._tape.sent.append(bytes(data))
        self._inner.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Raw(cast(io.RawIOBase, self._inner.makefile("rb", buffering=0)), self._tape), 1 << 16)

    def close(self) -> None:
        self._inner.close()


class _Connection(http.client.HTTPConnection):
    """A connection with a tape. `host` and `port` are the origin's, with a proxy too."""

    scheme, default_port = "http", 80

    def __init__(self, tee: Tee, host: str, **more: Any) -> None:
        super().__init__(host, **more)
        self._tee, self._authority = tee, host
        self._tape: Tape | None = None
        self._asked = ("GET", "/")

    def putrequest(self, method: str, url: str, *more: Any, **others: Any) -> None:
        self._asked = (method, url)
        super().putrequest(method, url, *more, **others)

    def connect(self) -> None:
        self._tee.allow()
        method, target = self._asked
        self._tape = tape = Tape(self._tee, f"{self.scheme}://{self._authority}{target}", method)
        try:
            plain = dial(self._tee, self.host, self.port)
            plain.settimeout(cast(float, self.timeout))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tape.ip = None if self._tee.exit else plain.getpeername()[0]
            self.sock = cast(Any, _Socket(self._secured(plain, tape), tape))
        except OSError as error:
            tape.failure = error.word if isinstance(error, NotDialled) else _word(error)
            tape.seal()
            raise

    def _secured(self, plain: socket.socket, tape: Tape) -> socket.socket:
        return plain

    def close(self) -> None:
        """Close; an exchange that nobody reads is sealed by the end of the download at the latest."""
        super().close()
        if self._tape is not None and self._tape.raw is None:
            self._tape.seal()


class _SecureConnection(_Connection):
    """The same with TLS."""

    scheme, default_port = "https", 443

    def __init__(self, tee: Tee, host: str, *, context: ssl.SSLContext, **more: Any) -> None:
        super().__init__(tee, host, **more)
        self._context = context

    def _secured(self, plain: socket.socket, tape: Tape) -> socket.socket:
        try:
            secure = self._context.wrap_socket(plain, server_hostname=self.host)
        except OSError:
            plain.close()
            raise
        tape.tls = "tls/" + (secure.version() or "").removeprefix("TLSv")
        tape.cipher = (secure.cipher() or (None,))[0]
        if certificate := secure.getpeercert(binary_form=True):
            tape.notes.append(("OSINT-Certificate-SHA256", hashlib.sha256(certificate).hexdigest()))
        return secure


class _Handler(ytdlp_urllib.HTTPHandler):
    """yt-dlp's own handler, over connections with a tape."""

    def __init__(self, tee: Tee, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._tee = tee

    def http_open(self, req: Any) -> Any:
        return self.do_open(partial(_Connection, self._tee), req)

    def https_open(self, req: Any) -> Any:
        return self.do_open(partial(_SecureConnection, self._tee), req, context=self._context)


class RecordingRH(ytdlp_urllib.UrllibRH):
    """The only way out of a YoutubeDL: http, https and data URLs; no FTP, no files, no WebSocket, no proxy but ours."""

    _SUPPORTED_URL_SCHEMES = ("http", "https", "data")
    RH_NAME = "recording"

    def __init__(self, tee: Tee, **more: Any) -> None:
        super().__init__(**more)
        self._tee = tee

    def _create_instance(self, proxies: Any, cookiejar: Any, legacy_ssl_support: Any = None) -> Any:
        opener = urllib.request.OpenerDirector()
        for handler in (
            _Handler(self._tee, self._make_sslcontext(legacy_ssl_support=legacy_ssl_support)),
            urllib.request.HTTPCookieProcessor(cookiejar),
            urllib.request.DataHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            ytdlp_urllib.RedirectHandler(),
        ):
            opener.add_handler(handler)
        opener.addheaders = []
        return opener
