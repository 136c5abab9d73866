"""The small objects of one examination of a store, under v1/doctor/<id>/, and one that outlives it."""

import hashlib
from base64 import b64encode
from typing import Any

from storage.ids import new_id
from storage.s3_wire import S3, Kind, Refused, Wire

BODY = bytes(range(256)) * 4
ROOT = "v1/doctor/"
LASTING = ROOT + "lasting"  # put by the first examination, looked at by each later one, never deleted
_CLEARED = 1000  # of one examination there are a few dozen


class Canaries:
    """Small objects of one examination; every method raises Refused."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._prefix = f"{ROOT}{new_id()}/"

    @property
    def config(self) -> S3:
        """Where the canaries lie, and as whom we put them there."""
        return self.wire.config

    def key(self, name: str) -> str:
        """Name a canary's place in the bucket."""
        return self._prefix + name

    def put(self, name: str, body: bytes = BODY, **more: Any) -> dict[str, Any]:
        """Put one, with its Content-MD5 unless `more` names another."""
        return self.wire.call("put_object", Key=self.key(name), Body=body, **({"ContentMD5": md5(body)} | more))

    def head(self, name: str) -> dict[str, Any] | None:
        """Describe one; None if it is not there."""
        return head(self.wire, self.key(name))

    def get(self, name: str, **more: Any) -> dict[str, Any]:
        """Ask for one; the answer's body must be read."""
        return self.wire.call("get_object", Key=self.key(name), **more)

    def read(self, name: str, **more: Any) -> bytes:
        """Read one."""
        return self.wire.read_body(self.get(name, **more), 0, len(BODY) + 1)

    def delete(self, name: str, **more: Any) -> dict[str, Any]:
        """Delete one, or with VersionId one version of it."""
        return self.wire.call("delete_object", Key=self.key(name), **more)

    def begin(self, name: str) -> str:
        """Begin a multipart upload and give its id."""
        return str(self.wire.call("create_multipart_upload", Key=self.key(name))["UploadId"])

    def part(self, name: str, upload_id: str, body: bytes) -> dict[str, Any]:
        """Send the first part, and describe it as the completion wants it."""
        where = {"Key": self.key(name), "UploadId": upload_id, "PartNumber": 1}
        answer = self.wire.call("upload_part", Body=body, ContentMD5=md5(body), **where)
        return {"PartNumber": 1, "ETag": answer["ETag"]}

    def complete(self, name: str, upload_id: str, parts: list[dict[str, Any]], **more: Any) -> None:
        """Complete a multipart upload."""
        where = {"Key": self.key(name), "UploadId": upload_id, "MultipartUpload": {"Parts": parts}}
        self.wire.call("complete_multipart_upload", **where, **more)

    def abort(self, name: str, upload_id: str) -> None:
        """Abort a multipart upload."""
        self.wire.call("abort_multipart_upload", Key=self.key(name), UploadId=upload_id)

    def parts(self, name: str, upload_id: str) -> list[dict[str, Any]]:
        """List the parts of a multipart upload."""
        answer = self.wire.call("list_parts", Key=self.key(name), UploadId=upload_id)
        return list(answer.get("Parts", ()))

    def clear(self) -> None:
        """Delete what may be deleted; what stays is small, and says in its key what it is."""
        for where in self._left():
            try:
                self.wire.call("delete_object", **where)
            except Refused as refused:
                if refused.kind is Kind.PASSING:
                    return

    def _left(self) -> list[dict[str, str]]:
        try:
            page = self.wire.call("list_object_versions", Prefix=self._prefix, MaxKeys=_CLEARED)
            found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            if found:
                return [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
        except Refused as refused:  # no versions, or not for us
            if refused.kind is Kind.PASSING:
                return []
        try:
            page = self.wire.call("list_objects_v2", Prefix=self._prefix, MaxKeys=_CLEARED)
        except Refused:
            return []
        return [{"Key": one["Key"]} for one in page.get("Contents", ())]


def by_server(refused: Refused) -> bool:
    """Whether the store itself said no, for good: neither our own client, nor a fault that may pass."""
    from botocore.exceptions import ClientError

    return refused.kind is not Kind.PASSING and isinstance(refused.__cause__, ClientError)


def head(wire: Wire, key: str) -> dict[str, Any] | None:
    """Describe an object; None if it is not there."""
    try:
        return wire.call("head_object", Key=key)
    except Refused as refused:
        if refused.kind is Kind.MISSING:
            return None
        raise


def md5(body: bytes) -> str:
    """Digest a body as Content-MD5 is written."""
    return b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def sha256(body: bytes) -> str:
    """Digest a body as x-amz-checksum-sha256 is written."""
    return b64encode(hashlib.sha256(body).digest()).decode()
