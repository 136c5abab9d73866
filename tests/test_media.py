"""The media fetcher records every byte that yt-dlp exchanges and proves each file by them."""

import gzip
import hashlib
import ipaddress
import json
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from osint_pipeline.fetch.guard import Guard
from osint_pipeline.fetch.media import MediaFailure, fetch_media
from osint_pipeline.samples import SampleSites, clips, video
from osint_pipeline.samples.server import Answer, Framing, Serving, html, redirect
from settings.exits import read_exit
from storage.digest import pieces
from storage.errors import SpoolFull
from storage.exchange import RecordRef, RecordType, Stored, Truncated
from storage.http import payload_of
from storage.ids import new_id
from tests.proxyserver import Socks

LOOPBACK = Guard(allow=(ipaddress.ip_network("127.0.0.0/8"),))
AGENT = "Mozilla/5.0 (X11; Linux x86_64) Test/1.0"


class Kept:
    """A sink that keeps all in memory and deletes stored blocks, as the recorder does."""

    def __init__(self, refuse=None):
        self.exchanges, self.resources, self.refuse = [], [], refuse
        self._lock = threading.Lock()

    def exchange(self, exchange, capture):
        if self.refuse:
            raise self.refuse
        digest = payload_of(exchange) if exchange.response is not None else None
        block = exchange.response
        if isinstance(block, Stored):
            block = b"".join(pieces(block))
            exchange.response.path.unlink()
        with self._lock:
            self.exchanges.append((exchange, block))
        return self._ref(exchange, digest, RecordType.RESPONSE if digest else RecordType.REQUEST)

    def resource(self, resource, capture):
        self.resources.append(resource)
        return self._ref(resource, None, RecordType.RESOURCE)

    def _ref(self, one, digest, kind):
        return RecordRef(
            record_id=one.record_id, type=kind, url=one.url, date="2026-11-23T00:00:00Z", warc="x.warc.gz",
            offset_bytes=0, length_bytes=0, record_sha256="", block_sha256="",
            payload_sha256=digest.sha256 if digest else None,
            payload_bytes=digest.size_bytes if digest else None,
            status=digest.head.status if digest and digest.head else None,
            media_type=digest.head.served_type if digest and digest.head else None,
            truncated=getattr(one, "truncated", None),
        )  # fmt: skip


@pytest.fixture
def sites():
    with SampleSites() as serving:
        yield serving


@pytest.fixture
def fetch(tmp_path):
    """Fetch with a fresh sink; answers (result, sink) and sees that no scratch file is left."""

    def run(url, *, guard=LOOPBACK, limit_bytes=64 << 20, timeout_seconds=30.0, exit=None, sink=None):
        sink = sink or Kept()
        result = fetch_media(
            url, capture=new_id(), sink=sink, guard=guard, scratch=tmp_path, user_agent=AGENT,
            limit_bytes=limit_bytes, timeout_seconds=timeout_seconds, exit=exit,
        )  # fmt: skip
        return result, sink

    yield run
    assert list(tmp_path.iterdir()) == []


def serving(site):
    log = []
    return Serving(site, log.append), log


def as_logged(sink, refs):
    parts = [(urlsplit(one.url), one, ref) for (one, _), ref in zip(sink.exchanges, refs, strict=False)]
    return [
        (one.method, url.netloc, url.path + (f"?{url.query}" if url.query else ""), ref.status, ref.payload_sha256)
        for url, one, ref in parts
    ]


def logged(log):
    return [(one.method, one.host, one.path, one.status, one.sent_sha256) for one in log]


def test_every_exchange_of_the_server_has_a_record_and_the_film_is_proved(sites, fetch):
    result, sink = fetch(sites.video)
    assert (result.failure, result.reconciled, result.missing) == (None, True, ())
    assert sorted(as_logged(sink, result.records)) == sorted(logged(sites.log))
    film = next(one for one in result.files if one.media_type == "video/mp4")
    assert film.sha256 == hashlib.sha256(video.film(1)).hexdigest() == film.record.payload_sha256
    assert film.size_bytes == len(video.film(1)) and film.url.endswith("/film/1.mp4")
    assert {one.truncated for one, _ in sink.exchanges} == {None}


def test_records_hold_the_bytes_of_both_sides(sites, fetch):
    _, sink = fetch(sites.video)
    page, block = sink.exchanges[0]
    assert page.url == sites.video and page.ip == "127.0.0.1" and page.protocols == ("http/1.1",)
    assert page.request.startswith(b"GET /v/1 HTTP/1.1\r\n") and f"User-Agent: {AGENT}".encode() in page.request
    assert block.startswith(b"HTTP/1.1 200 OK\r\nServer: sample/1.0\r\n")
    assert b"X-Forwarded-For" not in b"".join(one.request for one, _ in sink.exchanges)
    assert page.started_at <= page.ended_at and page.started_at.tzinfo is UTC


def test_info_is_kept_about_the_page_and_names_no_path_of_ours(sites, fetch, tmp_path):
    result, sink = fetch(sites.video)
    (resource,) = sink.resources
    assert resource.url == f"urn:info:{sites.video}" and resource.media_type == "application/json"
    assert resource.about == sink.exchanges[0][0].record_id
    told = json.loads(resource.body)
    assert video.TITLES["1"] in told["title"] and told["_version"]["version"]
    assert str(tmp_path).encode() not in resource.body
    assert result.info == resource.body and result.records[-1] is result.info_record


def test_redirect_hops_are_recorded(sites, fetch):
    result, sink = fetch(f"{sites.bases['video']}/r/1")
    assert result.reconciled
    assert [one.status for one in result.records[:2]] == [301, 200]
    assert sorted(as_logged(sink, result.records)) == sorted(logged(sites.log))


@pytest.mark.parametrize(
    ("path", "kind", "refused"),
    [
        ("/v/none", MediaFailure.GONE, True),
        ("/v/3", MediaFailure.GONE, True),
        ("/v/login", MediaFailure.UNSUPPORTED, False),
    ],
)
def test_pages_without_a_film_say_why_and_are_recorded(sites, fetch, path, kind, refused):
    result, sink = fetch(sites.bases["video"] + path)
    assert (result.kind, result.refused, result.reconciled, result.info) == (kind, refused, False, None)
    assert result.failure and "yt-dlp -U" not in result.failure and "Traceback" not in result.failure
    assert sorted(as_logged(sink, result.records)) == sorted(logged(sites.log))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("forbidden", MediaFailure.FORBIDDEN), ("inside", MediaFailure.ADDRESS), ("inside-decimal", MediaFailure.ADDRESS),
     ("loop", MediaFailure.NETWORK)],
)  # fmt: skip
def test_trouble_is_named(sites, fetch, name, kind):
    result, sink = fetch(sites.troubled(name))
    assert result.kind is kind, result.failure
    answered = [one for one in as_logged(sink, result.records) if one[3]]
    assert sorted(answered) == sorted(logged(sites.log))


def test_private_address_is_not_dialled(sites, fetch):
    result, sink = fetch(sites.video, guard=Guard())
    assert (result.kind, result.refused) == (MediaFailure.ADDRESS, True)
    assert sites.log == []
    assert {one.failure for one, _ in sink.exchanges} == {"address-refused"}
    assert all(one.request == b"" for one, _ in sink.exchanges)


def test_closed_port_is_a_recorded_failure(fetch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result, sink = fetch(f"http://127.0.0.1:{port}/v")
    assert result.kind is MediaFailure.NETWORK
    assert {one.failure for one, _ in sink.exchanges} == {"refused"}


def test_large_film_is_cut_at_the_limit_and_declared(sites, fetch):
    result, sink = fetch(sites.video, limit_bytes=100_000)
    assert result.kind is MediaFailure.LIMIT and "100000 bytes" in result.failure
    cut = [(one, block) for one, block in sink.exchanges if one.truncated is Truncated.LENGTH]
    assert [len(block) for _, block in cut] == [100_000]
    assert cut[0][1].endswith(video.film(1)[: len(cut[0][1].partition(b"\r\n\r\n")[2])])


def test_slow_film_is_given_up_in_time(fetch):
    page = html('<html><head><title>x</title></head><body><video src="/slow.mp4"></video></body></html>')
    slow = Answer(body=clips.mp4(1), media_type="video/mp4", drip_seconds=0.1, drip_bytes=64)
    server, _ = serving(lambda asked: slow if asked.path == "/slow.mp4" else page)
    with server:
        begun = time.monotonic()
        result, sink = fetch(server.url + "/", timeout_seconds=1.5)
        assert time.monotonic() - begun < 10
    assert result.kind is MediaFailure.LIMIT and "time" in result.failure
    assert sink.exchanges[-1][0].truncated is Truncated.TIME


def test_large_bodies_pass_through_the_disk_and_leave_nothing_behind(fetch):
    body = clips.mp4(2) + bytes(5 << 20)
    page = html('<html><head><title>x</title></head><body><video src="/big.mp4"></video></body></html>')
    for framing in Framing:
        film = Answer(body=body, media_type="video/mp4", framing=framing)
        server, log = serving(lambda asked, film=film: film if asked.path == "/big.mp4" else page)
        with server:
            result, sink = fetch(server.url + "/")
        assert result.reconciled and result.files[0].sha256 == hashlib.sha256(body).hexdigest()
        assert sorted(as_logged(sink, result.records)) == sorted(logged(log))
        stored = [one for one, _ in sink.exchanges if isinstance(one.response, Stored)]
        assert len(stored) == 1 and stored[0].truncated is None


def test_broken_off_film_is_resumed_and_proved_by_its_pieces(fetch):
    body, tries = clips.mp4(3, 40), []

    def site(asked):
        if asked.path != "/film.mp4":
            return html('<html><head><title>x</title></head><body><video src="/film.mp4"></video></body></html>')
        tries.append(asked.headers.get("range"))
        cut = len(body) // 2 if len(tries) == 1 else None
        return Answer(body=body, media_type="video/mp4", ranges=True, cut_bytes=cut)

    server, _ = serving(site)
    with server:
        result, sink = fetch(server.url + "/")
    assert len(tries) >= 2, tries
    assert result.reconciled, (result.failure, result.missing, tries)
    assert result.files[0].sha256 == hashlib.sha256(body).hexdigest()
    assert Truncated.DISCONNECT in {one.truncated for one, _ in sink.exchanges}


def hls(segments, *, spoil=None):
    """Serve an HLS stream of MPEG-TS-like segments (each a row of empty packets)."""
    listed = "".join(f"#EXTINF:2.0,\nsegment{number}.ts\n" for number in range(len(segments)))
    index = f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n{listed}#EXT-X-ENDLIST\n"

    def site(asked):
        if asked.path == "/index.m3u8":
            return Answer(body=index.encode(), media_type="application/vnd.apple.mpegurl", coding="gzip")
        if asked.path.startswith("/segment"):
            number = int(asked.path.removeprefix("/segment").removesuffix(".ts"))
            if number == spoil:
                return Answer(status=404, body=b"gone", media_type="text/plain")
            return Answer(body=segments[number], media_type="video/mp2t")
        return html("<html><body>404</body></html>", status=404)

    return site


def segments():
    return [b"".join(b"\x47\x1f\xff\x10" + bytes([number]) * 184 for _ in range(50)) for number in range(6)]


def test_each_fragment_of_a_stream_is_recorded_and_the_joined_file_is_proved(fetch):
    server, log = serving(hls(segments()))
    with server:
        result, sink = fetch(server.url + "/index.m3u8")
    assert result.reconciled, (result.failure, result.missing)
    assert result.files[0].sha256 == hashlib.sha256(b"".join(segments())).hexdigest()
    assert sorted(as_logged(sink, result.records)) == sorted(logged(log))


def test_stream_with_a_missing_fragment_is_a_failure(fetch):
    server, log = serving(hls(segments(), spoil=3))
    with server:
        result, sink = fetch(server.url + "/index.m3u8")
    assert result.failure and not result.reconciled
    assert sorted(as_logged(sink, result.records)) == sorted(logged(log))


def test_left_answers_are_read_to_their_end_or_declared(fetch):
    """The generic extractor looks at a few bytes of a direct link and drops the rest."""
    body = clips.mp4(4) + bytes(3 << 20)
    server, _ = serving(lambda asked: Answer(body=body, media_type="video/mp4"))
    with server:
        result, sink = fetch(server.url + "/direct.mp4")
    assert result.reconciled
    for one, block in sink.exchanges:
        whole = len(block.partition(b"\r\n\r\n")[2]) == len(body)
        assert (one.truncated is None) == whole
    assert Truncated.UNSPECIFIED in {one.truncated for one, _ in sink.exchanges}


def test_coded_thumbnail_is_proved(fetch):
    page = """<html><head><title>x</title><meta property="og:image" content="/t.jpg"></head>
    <body><video src="/film.mp4" poster="/t.jpg"></video></body></html>"""
    picture = b"\xff\xd8\xff\xe0" + b"thumb" * 300

    def site(asked):
        if asked.path == "/film.mp4":
            return Answer(body=clips.mp4(5), media_type="video/mp4")
        if asked.path == "/t.jpg":
            return Answer(body=picture, media_type="image/jpeg", coding="gzip")
        return html(page, coding="gzip", framing=Framing.CHUNKED)

    server, log = serving(site)
    with server:
        result, sink = fetch(server.url + "/")
    assert result.reconciled, result.missing
    assert hashlib.sha256(picture).hexdigest() in {one.sha256 for one in result.files}
    assert sorted(as_logged(sink, result.records)) == sorted(logged(log))
    coded = [block for one, block in sink.exchanges if one.url.endswith("/t.jpg")]
    assert gzip.decompress(coded[0].partition(b"\r\n\r\n")[2]) == picture


def test_sink_that_takes_no_more_ends_the_download_with_its_own_error(sites, fetch):
    with pytest.raises(SpoolFull):
        fetch(sites.video, sink=Kept(refuse=SpoolFull("spool", 10)))


def test_downloads_in_threads_do_not_mix(sites, fetch):
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(fetch, [f"{sites.bases['video']}/v/{name}" for name in ("1", "2", "1", "2")]))
    for (result, sink), number in zip(runs, (1, 2, 1, 2), strict=True):
        assert result.reconciled
        assert hashlib.sha256(video.film(number)).hexdigest() in {one.sha256 for one in result.files}
        assert all(f"/{number}" in one.url for one, _ in sink.exchanges)


def test_redirect_with_a_changed_scheme_or_file_url_goes_nowhere(fetch):
    server, _ = serving(lambda asked: redirect("file:///etc/passwd"))
    with server:
        result, sink = fetch(server.url + "/")
    assert result.failure
    assert all(b"root:" not in (block or b"") for _, block in sink.exchanges)


def tunnel(heads):
    """Run an HTTP proxy that knows CONNECT; answers its server socket."""
    server = socket.create_server(("127.0.0.1", 0))

    def carry(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept():
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    def serve(client):
        with client:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            heads.append(head)
            port = int(head.split(b" ")[1].rpartition(b":")[2])
            with socket.create_connection(("127.0.0.1", port)) as origin:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=carry, args=(origin, client), daemon=True)
                back.start()
                carry(client, origin)
                back.join(10)

    threading.Thread(target=accept, daemon=True).start()
    return server


def test_proxy_resolves_names_and_its_password_enters_no_record(sites, fetch):
    heads = []
    with tunnel(heads) as server:
        port = urlsplit(sites.video).port
        result, sink = fetch(
            f"http://nowhere.invalid:{port}/v/1",
            guard=LOOPBACK,
            exit=read_exit(f"http://me:pa%3Ass@127.0.0.1:{server.getsockname()[1]}"),
        )
        server.shutdown(socket.SHUT_RDWR)
    assert heads and all(b"Proxy-Authorization: Basic bWU6cGE6c3M=" in head for head in heads)
    assert result.reconciled, result.failure
    for one, _ in sink.exchanges:
        assert one.ip is None and ("OSINT-Proxy", "connect") in one.notes
        assert b"roxy" not in one.request
    refused, _ = fetch("http://169.254.169.254/", exit=read_exit("http://127.0.0.1:9"))
    assert refused.kind is MediaFailure.ADDRESS


def test_a_socks_proxy_resolves_names_and_every_exchange_through_it_is_recorded(sites, fetch):
    port = urlsplit(sites.video).port
    with Socks(login=("mira", "geheim-4711"), hosts={"nowhere.invalid": "127.0.0.1"}) as proxy:
        exit = read_exit(f"socks5h://mira:geheim-4711@127.0.0.1:{proxy.port}", "warsaw")
        result, sink = fetch(f"http://nowhere.invalid:{port}/v/1", exit=exit)
        before = len(proxy.asked)
        refused, _ = fetch("http://169.254.169.254/", exit=exit)
        lost, kept = fetch("http://away.invalid/v/1", exit=exit)
    assert result.reconciled, result.failure
    assert before == len(sink.exchanges) and proxy.asked[0] == ("name", "nowhere.invalid", port)
    for one, _ in sink.exchanges:
        assert one.ip is None and ("OSINT-Proxy", "socks5") in one.notes
        assert one.request.startswith(b"GET /")
    assert refused.kind is MediaFailure.ADDRESS and "169.254.169.254" not in str(proxy.asked)
    assert lost.kind is MediaFailure.NETWORK and {one.failure for one, _ in kept.exchanges} == {"proxy-tunnel"}
    assert lost.failure and "geheim" not in lost.failure and str(proxy.port) not in lost.failure


def certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sample")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "both.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path, made.public_bytes(serialization.Encoding.DER)


def test_tls_is_verified_and_recorded(fetch, tmp_path_factory, monkeypatch):
    path, der = certificate(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server, _ = serving(lambda asked: Answer(body=clips.mp4(6), media_type="video/mp4"))
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    url = server.url.replace("http:", "https:") + "/direct.mp4"
    with server:
        result, sink = fetch(url)
        assert result.kind is MediaFailure.NETWORK and "CERTIFICATE_VERIFY_FAILED" in result.failure
        assert {(one.failure, one.request) for one, _ in sink.exchanges} == {("tls", b"")}
        monkeypatch.setattr(certifi, "where", lambda: str(path))
        result, sink = fetch(url)
    assert result.reconciled, result.failure
    for one, _ in sink.exchanges:
        assert one.protocols == ("http/1.1", "tls/1.3") and one.cipher.startswith("TLS_")
        assert ("OSINT-Certificate-SHA256", hashlib.sha256(der).hexdigest()) in one.notes
        assert one.url == url


@pytest.mark.parametrize("more", [0, 3 << 20])
def test_interim_answers_are_set_apart_and_trailing_bytes_left_out(fetch, more):
    body = clips.mp4(7) + bytes(more)
    told = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n" % len(body)

    def serve(server):
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                try:
                    client.recv(65536)
                    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + told + body + b"surplus")
                    client.shutdown(socket.SHUT_WR)
                    client.recv(1)
                except OSError:
                    pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        result, sink = fetch(f"http://127.0.0.1:{server.getsockname()[1]}/direct.mp4")
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert result.reconciled, (result.failure, result.missing)
    whole = [(one, block) for one, block in sink.exchanges if one.truncated is None]
    assert whole and all(block == told + body for _, block in whole)
    assert all(("OSINT-Interim", "100 Continue") in one.notes for one, _ in whole)
