"""Calls to an S3 server: how it is addressed, what its refusals mean, what is tried again.

boto3 is imported at the first call (0.3 s): a program that does not touch the store does not pay for it.
"""

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import cache
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

from storage.errors import StorageError, StoreUnavailable

T = TypeVar("T")
_MAKING = threading.Lock()  # a session is not to be shared between threads
_LONGEST_PAUSE_SECONDS = 2.0
_MOST_CONNECTIONS = 64  # opened as they are needed; several files go at once, each in several parts
_SKEW_SECONDS = 300  # S3 refuses from 900 on; what is less may still be refused elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """Where the objects go and as whom.

    `attempts` and `patience_seconds` bound each single call, whichever ends first; `read_seconds` is the longest silence.
    `durable`: whether the store has bytes on disk when it says that it has them (rclone's never syncs).
    """

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    part_bytes: int = 64 << 20
    threads: int = 4
    connect_seconds: float = 3.0
    read_seconds: float = 30.0
    attempts: int = 6
    patience_seconds: float = 20.0
    durable: bool = True


class Kind(Enum):
    """What a refusal means for the caller."""

    MISSING = "missing"  # no such object
    EXISTS = "exists"  # the key is taken (If-None-Match)
    NO_UPLOAD = "no upload"  # the multipart upload is unknown: ended, expired or forgotten
    UNSUPPORTED = "unsupported"  # the server does not know the call or a header
    RANGE = "range"  # the object ends before the range begins
    PASSING = "passing"  # may pass by itself; whether the call took effect is not known
    FINAL = "final"  # will not pass by itself


class Refused(StorageError):
    """The store refused a call, or did not answer it; never leaves this package's store modules."""

    def __init__(self, kind: Kind, code: str, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.kind, self.code, self.why = kind, code, why


_KINDS = {
    "NoSuchKey": Kind.MISSING,
    "NotFound": Kind.MISSING,
    "NoSuchVersion": Kind.MISSING,
    "PreconditionFailed": Kind.EXISTS,
    "ObjectAlreadyExists": Kind.EXISTS,
    "NoSuchUpload": Kind.NO_UPLOAD,
    "NotImplemented": Kind.UNSUPPORTED,
    "Unimplemented": Kind.UNSUPPORTED,
    "MethodNotAllowed": Kind.UNSUPPORTED,
    "InvalidRange": Kind.RANGE,
    "ConditionalRequestConflict": Kind.PASSING,  # AWS: another conditional write of this key is under way
    "OperationAborted": Kind.PASSING,
    "RequestTimeout": Kind.PASSING,
    "IncompleteBody": Kind.PASSING,
    # bytes that changed on the way: the store saw it, so the next try may arrive whole
    "BadDigest": Kind.PASSING,
    "XAmzContentSHA256Mismatch": Kind.PASSING,
    "XAmzContentChecksumMismatch": Kind.PASSING,
    "MalformedXML": Kind.PASSING,
    "InvalidPart": Kind.NO_UPLOAD,  # a part is not what we were told that it is: start again
    "InternalError": Kind.PASSING,
    "SlowDown": Kind.PASSING,
    "ServiceUnavailable": Kind.PASSING,
    "TooManyRequests": Kind.PASSING,
}
_STATUS_KINDS = {
    404: Kind.MISSING,
    408: Kind.PASSING,
    412: Kind.EXISTS,
    416: Kind.RANGE,
    429: Kind.PASSING,
    501: Kind.UNSUPPORTED,
}
_SENTENCES = {
    "NoSuchBucket": "the bucket {bucket!r} does not exist",
    "InvalidBucketName": "{bucket!r} is no name for a bucket",
    "InvalidAccessKeyId": "does not know our access key",
    "SignatureDoesNotMatch": "our secret key is wrong",
    "RequestTimeTooSkewed": "this machine's clock differs too much from the store's",
    "RequestExpired": "this machine's clock differs too much from the store's",
    "ExpiredToken": "our credentials have expired",
    "TokenRefreshRequired": "our credentials have expired",
    "InvalidToken": "our credentials are not valid",
    "PermanentRedirect": "the bucket {bucket!r} lies in another region",
    "AuthorizationHeaderMalformed": "we sign for a region that is not the store's",
    "UserSuspended": "our access key is suspended",
    "AccessDenied": "our key has no right to do this",
    "AllAccessDisabled": "access to this bucket is switched off",
    "QuotaExceeded": "our quota is used up",
    "EntityTooLarge": "the object is larger than the store takes",
    "InsufficientStorage": "the store is full",
    "XMinioStorageFull": "the store is full",
    "SlowDown": "asks us to slow down",
    "ServiceUnavailable": "is out of service for now",
    "503": "is out of service for now",  # an answer to HEAD has no body to say more
    "507": "the store is full",
}


class Wire:
    """One S3 server, bucket and key; safe to share between threads. Not `signed`: asks as a stranger would."""

    def __init__(self, config: S3, *, signed: bool = True) -> None:
        self.config, self._signed = config, signed
        self._client: Any = None
        self._making = threading.Lock()
        self._halted = threading.Event()

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Ask once (`operation` as boto3 calls it, the bucket added); raises Refused."""
        self.go_on_or_refuse()
        client = self._connected()
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        if operation != "list_buckets":
            arguments["Bucket"] = self.config.bucket
        try:
            answer: dict[str, Any] = getattr(client, operation)(**arguments)
        except ClientError as error:
            refused = self._refusal(error.response)
            if refused.kind is Kind.FINAL and refused.code.isdigit():  # an answer to HEAD has no body to say why
                self._explain(operation, arguments)
            raise refused from error
        except ResponseParserError as error:
            raise Refused(Kind.PASSING, "NotS3", "answered what is no S3 answer") from error
        except BotoCoreError as error:
            raise silence(error) from error
        return answer

    def patiently(self, attempt: Callable[[], T]) -> T:
        """Repeat what is refused for a passing reason, with growing random pauses.

        Raises StoreUnavailable when patience ends or the reason will not pass; other refusals go through as Refused.
        """
        deadline = time.monotonic() + self.config.patience_seconds
        tried = 0
        while True:
            try:
                return attempt()
            except Refused as refused:
                tried += 1
                self._give_up_or_pause(refused, tried, deadline)

    def ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Ask patiently; only for calls that may be repeated without harm."""
        return self.patiently(lambda: self.call(operation, **arguments))

    def unavailable(self, refused: Refused) -> StoreUnavailable:
        """Say of a refusal, to people, that the store cannot be used."""
        return StoreUnavailable(self.config.endpoint, refused.why)

    def read_body(self, answer: dict[str, Any], skip_bytes: int, length_bytes: int) -> bytes:
        """Read this much of an answer's body and close it; raises Refused if the connection breaks first."""
        from botocore.exceptions import BotoCoreError

        body = answer["Body"]
        try:
            while skip_bytes > 0 and (dropped := body.read(min(skip_bytes, 1 << 20))):
                skip_bytes -= len(dropped)
            data: bytes = body.read(length_bytes)
        except BotoCoreError as error:
            raise silence(error) from error
        finally:
            body.close()
        return data

    def halt(self) -> None:
        """Make every call of every thread end soon, as refused for good; until `go_on`."""
        self._halted.set()

    def go_on(self) -> None:
        """Take `halt` back."""
        self._halted.clear()

    def go_on_or_refuse(self) -> None:
        """Raise Refused where we were told to halt."""
        if self._halted.is_set():
            raise Refused(Kind.FINAL, "Halted", "is left alone: this program is stopping")

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._making:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _give_up_or_pause(self, refused: Refused, tried: int, deadline: float) -> None:
        if refused.kind is Kind.FINAL:
            raise self.unavailable(refused) from refused
        if refused.kind is not Kind.PASSING:
            raise refused
        pause = random.uniform(0, min(_LONGEST_PAUSE_SECONDS, 0.05 * 2**tried))
        if tried >= self.config.attempts or time.monotonic() + pause > deadline:
            why = f"{refused.why} ({tried} tries)" if tried > 1 else refused.why
            raise StoreUnavailable(self.config.endpoint, why) from refused
        self._halted.wait(pause)

    def _explain(self, operation: str, arguments: dict[str, Any]) -> None:
        if operation == "head_object":
            self.call("get_object", Key=arguments["Key"], Range="bytes=0-0")["Body"].close()
        elif operation == "head_bucket":
            self.call("list_objects_v2", MaxKeys=1)

    def _refusal(self, response: dict[str, Any]) -> Refused:
        code = str(response.get("Error", {}).get("Code", ""))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code == "NoSuchBucket":
            kind = Kind.FINAL
        else:
            kind = _KINDS.get(code) or _STATUS_KINDS.get(status) or (Kind.PASSING if status >= 500 else Kind.FINAL)
        ahead = _clock_ahead_seconds(response)
        if kind is Kind.FINAL and abs(ahead) > _SKEW_SECONDS:  # some servers say no more than AccessDenied
            differs = f"is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the store's"
            return Refused(kind, code, f"this machine's clock {differs} ({code})")
        if sentence := _SENTENCES.get(code):
            return Refused(kind, code, f"{sentence.format(bucket=self.config.bucket)} ({code})")
        message = str(response.get("Error", {}).get("Message") or "no reason given")
        return Refused(kind, code, f"refused with status {status} {code}: {message}")

    def _connected(self) -> Any:
        with self._making:
            if self._client is None:
                self._client = _connect(self.config, self._signed)
            return self._client


def _connect(config: S3, signed: bool) -> Any:
    import botocore
    import botocore.config
    import botocore.exceptions

    settings = botocore.config.Config(
        signature_version="s3v4" if signed else botocore.UNSIGNED,
        s3={"addressing_style": "path", "payload_signing_enabled": True},
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=config.connect_seconds,
        read_timeout=config.read_seconds,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=_MOST_CONNECTIONS,
        proxies={} if is_loopback(config.endpoint) else None,
    )
    try:
        with _MAKING:
            return _session().client(
                "s3",
                endpoint_url=config.endpoint,
                region_name=config.region,
                aws_access_key_id=config.access_key,
                aws_secret_access_key=config.secret_key,
                config=settings,
            )
    except (ValueError, botocore.exceptions.BotoCoreError) as error:
        raise StoreUnavailable(config.endpoint, f"cannot be addressed: {error}") from error


@cache
def _session() -> Any:
    """Make the session once: a client costs 0.07 s of reading models from a new one, 0.006 s from an old one."""
    import boto3.session
    import botocore.session

    core = botocore.session.get_session({"profile": (None, None, None, None)})  # nothing from the user's ~/.aws
    core.set_config_variable("config_file", os.devnull)
    core.set_config_variable("credentials_file", os.devnull)
    return boto3.session.Session(botocore_session=core)


def is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _clock_ahead_seconds(response: dict[str, Any]) -> float:
    """How far this clock is ahead of the Date (RFC 9110 6.6.1) of an answer; 0 if it has none."""
    told = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return time.time() - parsedate_to_datetime(told).timestamp()
    except (ValueError, TypeError):
        return 0.0


def silence(error: Exception) -> Refused:
    import botocore.exceptions as known

    cause = error.__cause__ or error.__context__ or error
    if isinstance(error, known.SSLError):
        return Refused(Kind.FINAL, "TLS", f"its certificate or its TLS is not accepted: {cause}")
    if isinstance(error, known.ParamValidationError):
        return Refused(Kind.FINAL, "Parameter", f"the request cannot be made: {error}")
    if isinstance(error, (known.ConnectTimeoutError, known.ReadTimeoutError)):
        return Refused(Kind.PASSING, "Timeout", "does not answer in time")
    if isinstance(error, known.EndpointConnectionError):
        return Refused(Kind.PASSING, "NoConnection", "cannot be connected to")
    if isinstance(error, known.ConnectionError):
        return Refused(Kind.PASSING, "NoConnection", f"cannot be connected to: {cause}")
    if isinstance(error, (known.HTTPClientError, known.IncompleteReadError)):
        return Refused(Kind.PASSING, "Disconnect", "broke the connection before its answer")
    return Refused(Kind.FINAL, type(error).__name__, str(error))
