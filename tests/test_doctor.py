"""The doctor finds what each real server keeps, ignores and breaks, and what is done with what it found."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from osint_pipeline import guarantees
from osint_pipeline.errors import Exit, UserError
from osint_pipeline.workspace import Workspace
from settings.errors import SettingError
from settings.service import load
from storage.canaries import LASTING, Canaries
from storage.doctor import Verdict, examine
from storage.embedded_store import EmbeddedStore
from storage.errors import StoreUnavailable
from storage.ids import new_id
from storage.objects import S3, ObjectStore
from storage.signing import Signer, get
from storage.trials import locking
from tests.cephserver import CephServer, policy_without_deletion
from tests.commands import Osint
from tests.faultproxy import Fault, FaultProxy
from tests.motoserver import MotoServer

ROOT = Path(__file__).parent.parent
KEPT, IGNORED, BROKEN, NOT_OFFERED = Verdict.KEPT, Verdict.IGNORED, Verdict.BROKEN, Verdict.NOT_OFFERED

RCLONE = {
    "content_md5": KEPT,
    "checksum_sha256": IGNORED,
    "signed_payload": IGNORED,
    "put_if_absent": IGNORED,
    "complete_if_absent": IGNORED,
    "multipart_listing": KEPT,
    "multipart_abort": KEPT,
    "range": KEPT,
    "range_status": BROKEN,
    "range_past_end": KEPT,
    "metadata": KEPT,  # until it is started again
    "versioning": NOT_OFFERED,
    "object_lock": NOT_OFFERED,
    "retention_stays": NOT_OFFERED,
    "legal_hold": NOT_OFFERED,
    "unsigned_refused": KEPT,
    "wrong_secret_refused": KEPT,
    "wrong_key_refused": KEPT,
    "clock_skew_refused": KEPT,
    "presigned_expiry": KEPT,
    "deletion_refused": IGNORED,
    "version_deletion_refused": NOT_OFFERED,
    "first_bytes_stay": IGNORED,
}
CEPH = RCLONE | {
    "signed_payload": KEPT,
    "put_if_absent": KEPT,  # in a bucket without versions
    "range_status": KEPT,
}
CEPH_LOCKED = CEPH | {
    "put_if_absent": IGNORED,
    "versioning": KEPT,
    "object_lock": KEPT,
    "retention_stays": KEPT,
    "legal_hold": KEPT,
    "deletion_refused": KEPT,
    "version_deletion_refused": KEPT,
    "first_bytes_stay": KEPT,
}
MOTO_LOCKED = CEPH_LOCKED | {
    "content_md5": IGNORED,
    "signed_payload": IGNORED,
    "put_if_absent": KEPT,
    "complete_if_absent": KEPT,
    "retention_stays": BROKEN,
    "unsigned_refused": BROKEN,
    "wrong_secret_refused": BROKEN,
    "wrong_key_refused": BROKEN,
    "clock_skew_refused": IGNORED,
    "presigned_expiry": BROKEN,
    "deletion_refused": IGNORED,
}


def locked(config: S3, mode: str) -> S3:
    """Make a bucket in which all is kept for a day."""
    config = replace(config, bucket=f"locked-{new_id().hex[-12:]}")
    rule = {"DefaultRetention": {"Mode": mode, "Days": 1}}
    with ObjectStore.open(config) as store:
        store.wire.call("create_bucket", ObjectLockEnabledForBucket=True)
        lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        store.wire.call("put_object_lock_configuration", ObjectLockConfiguration=lock)
    return config


def writer_of(server: CephServer, owned: S3) -> S3:
    """Make a user who may write to somebody's bucket, and not delete there."""
    name = f"writer-{new_id().hex[-12:]}"
    writer = server.new_user(name)
    with ObjectStore.open(owned) as store:
        store.wire.call("put_bucket_policy", Policy=policy_without_deletion(owned.bucket, name))
    return replace(writer, bucket=owned.bucket)


def verdicts(config: S3) -> dict[str, Verdict]:
    with ObjectStore.open(config) as store:
        return {one.name: one.verdict for one in examine(store)}


def canaries(config: S3) -> list[str]:
    with ObjectStore.open(config) as store:
        return [one.key for one in store.list("v1/doctor/")]


@pytest.fixture
def rclone(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "store") as embedded:
        yield embedded


def user_of(server: CephServer | MotoServer) -> S3:
    return server.new_user(f"doctor-{new_id().hex[-12:]}")


def test_rclone_ignores_conditions_and_digests_and_loses_metadata(rclone: EmbeddedStore) -> None:
    config = rclone.start()
    assert verdicts(config) == RCLONE
    assert canaries(config) == [LASTING]
    rclone.stop()
    assert verdicts(rclone.start()) == RCLONE | {"metadata": IGNORED}


def test_ceph_ignores_a_wrong_sha256_and_the_condition_of_a_completion(ceph_server: CephServer) -> None:
    config = user_of(ceph_server)
    began = time.monotonic()
    assert verdicts(config) == CEPH
    assert time.monotonic() - began < 10
    assert canaries(config) == [LASTING]


def test_ceph_ignores_the_condition_of_a_put_where_versions_are_kept(ceph_server: CephServer) -> None:
    config = user_of(ceph_server)
    with ObjectStore.open(config) as store:
        store.ensure_bucket()
        store.wire.call("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
    seen = verdicts(config)
    assert (seen["put_if_absent"], seen["versioning"], seen["first_bytes_stay"]) == (IGNORED, KEPT, KEPT)
    assert (seen["version_deletion_refused"], seen["object_lock"]) == (IGNORED, NOT_OFFERED)
    assert canaries(config) == [LASTING]


def test_ceph_keeps_what_a_locked_bucket_and_a_writer_without_deletion_promise(ceph_server: CephServer) -> None:
    assert verdicts(writer_of(ceph_server, locked(user_of(ceph_server), "COMPLIANCE"))) == CEPH_LOCKED


def test_governance_is_found_to_be_no_lock_against_its_owner(ceph_server: CephServer) -> None:
    seen = verdicts(locked(user_of(ceph_server), "GOVERNANCE"))
    assert (seen["object_lock"], seen["retention_stays"], seen["legal_hold"]) == (KEPT, IGNORED, KEPT)


def test_a_lock_that_our_key_may_bypass_is_no_lock(ceph_server: CephServer) -> None:
    """It may not change the retention, and may delete in spite of it."""
    owned = locked(user_of(ceph_server), "GOVERNANCE")
    name = f"bypasser-{new_id().hex[-12:]}"
    writer = replace(ceph_server.new_user(name), bucket=owned.bucket)
    policy = json.loads(policy_without_deletion(owned.bucket, name))
    policy["Statement"][0]["Action"] += ["s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"]
    policy["Statement"].append(policy["Statement"][0] | {"Effect": "Deny", "Action": ["s3:PutObjectRetention"]})
    with ObjectStore.open(owned) as store:
        store.wire.call("put_bucket_policy", Policy=json.dumps(policy))
    with ObjectStore.open(writer) as store:
        seen = {one.name: one for one in examine(store)}
    assert seen["object_lock"].verdict is KEPT
    assert (seen["retention_stays"].verdict, seen["retention_stays"].detail) == (
        IGNORED,
        "our key may delete a version under retention (GOVERNANCE)",
    )


def test_what_our_own_client_refuses_is_no_guarantee() -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_HEAD()

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.send_header("x-amz-object-lock-mode", "COMPLIANCE")
            ahead = datetime.now(UTC) + timedelta(days=30)
            self.send_header("x-amz-object-lock-retain-until-date", f"{ahead:%Y-%m-%dT%H:%M:%SZ}")
            self.end_headers()

        do_DELETE = do_HEAD

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        config = S3(endpoint=f"http://127.0.0.1:{server.server_port}", bucket="b", access_key="a", secret_key="s")
        try:
            with ObjectStore.open(config) as store:
                seen = [trial(Canaries(store.wire)) for trial in (locking.object_lock, locking.retention_stays)]
        finally:
            server.shutdown()
            serving.join()
    assert [one.verdict for one in seen] == [NOT_OFFERED, NOT_OFFERED]


def test_moto_shortens_compliance_and_looks_at_no_key(moto_server: MotoServer) -> None:
    assert verdicts(locked(user_of(moto_server), "COMPLIANCE")) == MOTO_LOCKED


def test_the_signatures_made_by_hand_are_those_of_the_specification() -> None:
    made = Signer(  # the example of "Authenticating Requests: Using Query Parameters" of the S3 documentation
        region="us-east-1",
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        at=datetime(2013, 5, 24, tzinfo=UTC),
    ).presigned("https://examplebucket.s3.amazonaws.com/test.txt", 86400)
    assert made.endswith("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.RESET])
@pytest.mark.parametrize("after", [0, 3, 10])
def test_a_fault_that_may_pass_is_never_taken_for_an_answer(rclone: EmbeddedStore, fault: Fault, after: int) -> None:
    config = rclone.start()
    with FaultProxy(int(config.endpoint.rpartition(":")[2]), fault, when=lambda n: n > after) as proxy:
        with ObjectStore.open(replace(config, endpoint=proxy.endpoint)) as store, pytest.raises(StoreUnavailable):
            examine(store)
        assert proxy.hits


def test_canaries_are_cleared_when_an_examination_breaks_off(rclone: EmbeddedStore) -> None:
    config = rclone.start()
    with FaultProxy(int(config.endpoint.rpartition(":")[2]), Fault.SLOW_DOWN, when=lambda n: n == 12) as proxy:
        with ObjectStore.open(replace(config, endpoint=proxy.endpoint)) as store, pytest.raises(StoreUnavailable):
            examine(store)
        assert proxy.hits == 1
    assert set(canaries(config)) <= {LASTING}


def workspace(home: Path, config: S3, **more: str) -> Workspace:
    named = {
        "HOME": str(home),
        "OSINT_HOME": str(home),
        "OSINT_S3_ENDPOINT": config.endpoint,
        "OSINT_S3_BUCKET": config.bucket,
        "OSINT_S3_ACCESS_KEY": config.access_key,
        "OSINT_S3_SECRET_KEY": config.secret_key,
    }
    return Workspace(load(named | more).service)


def test_an_examination_is_kept_for_its_store_and_made_anew_when_it_is_old(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with EmbeddedStore(tmp_path / "store") as rclone:
        config = rclone.start()
        with workspace(home, config) as opened:
            first = guarantees.known(opened)
            assert first and first.verdict("range_status") is BROKEN
            assert guarantees.known(opened) == first
            assert set(first.compact()) == {"examined_at", "guarantees"}
            assert first.compact()["guarantees"]["put_if_absent"] == "ignored"
            kept = (home / guarantees.FILE).read_text()
            assert config.secret_key not in kept and config.access_key not in kept
        with workspace(home, config, OSINT_DOCTOR_HOURS="0") as opened:
            second = guarantees.known(opened)
            assert second and second.examined_at > first.examined_at
            assert second.verdict("metadata") is KEPT
        with workspace(home, replace(config, bucket="another-one")) as opened:
            other = guarantees.known(opened)
            assert other and other.bucket == "another-one"
        with workspace(home, config) as opened:
            (home / guarantees.FILE).write_text("{")
            third = guarantees.known(opened)
            assert third and third.examined_at > second.examined_at
        with workspace(home, replace(config, endpoint="http://127.0.0.1:1")) as opened:
            began = time.monotonic()
            assert guarantees.known(opened) is None
            assert time.monotonic() - began < 5
    with workspace(home, config, OSINT_DOCTOR_HOURS="0") as opened:  # it is away: the last examination stands
        assert guarantees.known(opened) == third
    assert [path.name for path in home.iterdir()] == [guarantees.FILE]


def test_what_is_required_is_refused_where_it_is_missing(tmp_path: Path, rclone: EmbeddedStore) -> None:
    config = rclone.start()
    with workspace(tmp_path / "home", config) as opened:
        seen = guarantees.known(opened)
        guarantees.require(opened.service, None)  # nothing is required
        guarantees.require(replace(opened.service, require=("private",)), seen)
        with pytest.raises(UserError, match=r"worm \(versioning: not offered, .*put_if_absent") as missing:
            guarantees.require(replace(opened.service, require=("worm", "put_if_absent")), seen)
        assert missing.value.exit_code is Exit.STORE
        with pytest.raises(UserError, match="is not known") as unknown:
            guarantees.require(replace(opened.service, require=("worm",)), None)
        assert unknown.value.exit_code is Exit.STORE
        with pytest.raises(SettingError, match="'worn' is no guarantee"):
            guarantees.require(replace(opened.service, require=("worn",)), None)
    assert load({"HOME": str(tmp_path), "OSINT_REQUIRE": "worm, versioning"}).service.require == ("worm", "versioning")


def test_ceph_locked_satisfies_every_word_but_one(tmp_path: Path, ceph_server: CephServer) -> None:
    config = writer_of(ceph_server, locked(user_of(ceph_server), "COMPLIANCE"))
    words = ",".join(word for word in guarantees.WORDS if word != "put_if_absent")
    with workspace(tmp_path / "home", config, OSINT_REQUIRE=words) as opened:
        guarantees.require(opened.service, guarantees.known(opened))


def test_the_command_refuses_what_is_required_and_missing(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home", OSINT_REQUIRE="worm")
    done = osint.run("store", "doctor", code=Exit.STORE)
    assert "not offered" in done.stdout and "what OSINT_REQUIRE names: worm" in done.stderr
    assert "'worn' is no guarantee" in Osint(osint.home, OSINT_REQUIRE="worn").run("store", "doctor", code=2).stderr
    Osint(osint.home, OSINT_REQUIRE="private").run("store", "doctor")


def doctor_command(home: Path, config: S3, *words: str) -> str:
    named = {
        "OSINT_S3_ENDPOINT": config.endpoint,
        "OSINT_S3_BUCKET": config.bucket,
        "OSINT_S3_ACCESS_KEY": config.access_key,
        "OSINT_S3_SECRET_KEY": config.secret_key,
    }
    return Osint(home, **named).run("store", "doctor", *words).stdout


def rclone_document(folder: Path) -> str:
    """The embedded store, examined again after it was started again."""
    osint = Osint(folder / "home")
    osint.run("store", "doctor")
    return osint.run("store", "doctor", "--markdown").stdout


def ceph_document(folder: Path, server: CephServer) -> str:
    return doctor_command(folder / "home", user_of(server), "--markdown", "--server", server.version())


def ceph_locked_document(folder: Path, server: CephServer) -> str:
    config = writer_of(server, locked(user_of(server), "COMPLIANCE"))
    name = f"{server.version()}: object lock in mode COMPLIANCE, a writer that may not delete"
    return doctor_command(folder / "home", config, "--markdown", "--server", name)


def moto_document(folder: Path, server: MotoServer) -> str:
    name = f"{server.version()}: object lock in mode COMPLIANCE"
    config = locked(user_of(server), "COMPLIANCE")
    return doctor_command(folder / "home", config, "--markdown", "--server", name)


@pytest.mark.parametrize("name", ["rclone", "ceph", "ceph_locked", "moto"])
def test_the_documents_are_what_the_command_prints(tmp_path: Path, request: pytest.FixtureRequest, name: str) -> None:
    server = () if name == "rclone" else (request.getfixturevalue(f"{name.partition('_')[0]}_server"),)
    printed = globals()[f"{name}_document"](tmp_path, *server)
    written = (ROOT / "docs" / "stores" / f"{name.replace('_', '-')}.md").read_text("utf-8")
    assert printed.splitlines()[1:] == written.splitlines()[1:]  # but the title, which names a version
    assert "127.0.0.1" not in printed and str(tmp_path) not in printed


def test_the_table_names_each_guarantee_once(tmp_path: Path, rclone: EmbeddedStore) -> None:
    config = rclone.start()
    shown = doctor_command(tmp_path / "home", config)
    rows = [json.loads(line) for line in doctor_command(tmp_path / "home", config, "--json").splitlines()]
    assert [row["guarantee"] for row in rows] == list(RCLONE)
    for row in rows:
        assert shown.count(f"\n{row['guarantee']} ") == 1
    assert "broken" in shown.splitlines()[-1]


def test_an_old_request_is_told_from_one_signed_now(ceph_server: CephServer) -> None:
    config = user_of(ceph_server)
    with ObjectStore.open(config) as store:
        store.ensure_bucket()
        store.put_bytes_once(b"x", "v1/x")
    now = datetime.now(UTC)
    assert get(config, "v1/x", now).body == b"x"
    assert get(config, "v1/x", now - timedelta(hours=1)).code == "RequestTimeTooSkewed"
