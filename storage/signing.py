"""Requests to S3 signed by hand (AWS Signature Version 4): those that no client would send."""

import hashlib
import hmac
import re
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from storage.s3_wire import S3, Kind, Refused, is_loopback, silence

_CODE = re.compile(rb"<Code>([^<]{1,100})</Code>")
_NO_BODY = hashlib.sha256(b"").hexdigest()
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: the status, the error's code (empty for a success), the body."""

    status: int
    code: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Signs with these keys as if it were `at` (aware) now."""

    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    at: datetime

    def headers(self, method: str, url: str, payload_sha256: str) -> dict[str, str]:
        """Give the headers that sign a request; `payload_sha256` (hex) is believed."""
        signed = {"host": _host(url), "x-amz-content-sha256": payload_sha256, "x-amz-date": self._stamp}
        names = ";".join(sorted(signed))
        signature = self._signature(method, url, "", signed, payload_sha256)
        credential = f"{self.access_key}/{self._scope}"
        authorization = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return {name: value for name, value in signed.items() if name != "host"} | {"Authorization": authorization}

    def presigned(self, url: str, expires_seconds: int) -> str:
        """Make an address that anybody may get until it expires."""
        fields = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.access_key}/{self._scope}",
            "X-Amz-Date": self._stamp,
            "X-Amz-Expires": str(expires_seconds),
            "X-Amz-SignedHeaders": "host",
        }
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(fields.items()))
        signature = self._signature("GET", url, query, {"host": _host(url)}, "UNSIGNED-PAYLOAD")
        return f"{url}?{query}&X-Amz-Signature={signature}"

    @property
    def _stamp(self) -> str:
        return f"{self.at.astimezone(UTC):%Y%m%dT%H%M%SZ}"

    @property
    def _scope(self) -> str:
        return f"{self._stamp[:8]}/{self.region}/s3/aws4_request"

    def _signature(self, method: str, url: str, query: str, headers: dict[str, str], payload: str) -> str:
        lines = [f"{name}:{value}\n" for name, value in sorted(headers.items())]
        request = "\n".join([method, urlsplit(url).path, query, "".join(lines), ";".join(sorted(headers)), payload])
        digest = hashlib.sha256(request.encode()).hexdigest()
        key = b"AWS4" + self.secret_key.encode()
        for part in (self._stamp[:8], self.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, f"AWS4-HMAC-SHA256\n{self._stamp}\n{self._scope}\n{digest}".encode(), "sha256").hex()


def signer(config: S3, at: datetime) -> Signer:
    """Sign with a store's own keys, at a time of our choice."""
    return Signer(region=config.region, access_key=config.access_key, secret_key=config.secret_key, at=at)


def address(config: S3, key: str) -> str:
    """Name an object by its URL, path style."""
    return f"{config.endpoint.rstrip('/')}/{quote(config.bucket)}/{quote(key)}"


def get(config: S3, key: str, at: datetime) -> Answer:
    """Get an object by a request that was signed at this time."""
    url = address(config, key)
    return _send(config, "GET", url, signer(config, at).headers("GET", url, _NO_BODY), b"")


def get_presigned(config: S3, key: str, at: datetime, expires_seconds: int) -> Answer:
    """Get an object by an address that was signed at this time and expires so long after it."""
    return _send(config, "GET", signer(config, at).presigned(address(config, key), expires_seconds), {}, b"")


def put(config: S3, key: str, body: bytes, *, signed_sha256: str) -> Answer:
    """Put an object, signed now for a body of this SHA-256 (hex)."""
    url = address(config, key)
    headers = signer(config, datetime.now(UTC)).headers("PUT", url, signed_sha256)
    headers["Content-MD5"] = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()  # a lock wants it
    return _send(config, "PUT", url, headers, body)


def _send(config: S3, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
    """Send once, by the way that the client would; raises Refused(PASSING) for no answer and for a 5xx."""
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import BotoCoreError
    from botocore.httpsession import URLLib3Session

    timeout = (config.connect_seconds, config.read_seconds)
    session = URLLib3Session(timeout=timeout, proxies={} if is_loopback(config.endpoint) else None)
    try:
        answer: Any = session.send(AWSRequest(method=method, url=url, headers=headers, data=body).prepare())
        status, content = int(answer.status_code), bytes(answer.content)
    except BotoCoreError as error:
        raise silence(error) from error
    finally:
        session.close()
    told = _CODE.search(content)
    code = told[1].decode("utf-8", "replace") if told else "" if status < 300 else str(status)
    if status >= 500 or status in (408, 429):
        raise Refused(Kind.PASSING, code, f"refused with status {status} {code}")
    return Answer(status=status, code=code, body=content)


def _host(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.removesuffix(f":{_PORTS.get(parts.scheme)}")
