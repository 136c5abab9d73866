"""A tiny Ceph for tests: one monitor, one object daemon in memory, one radosgw, in a folder of its own.

The daemons run in the foreground as children of the test and end with it. Debian: ceph-mon ceph-osd radosgw ceph-common.
"""

import json
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from storage.s3_wire import S3

PROGRAMS = {
    "monmaptool": "ceph-common",
    "ceph": "ceph-common",
    "radosgw-admin": "radosgw",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "radosgw": "radosgw",
}
_START_SECONDS = 60
_TRIES = 5
_POLL_SECONDS = 0.05
_SETTINGS = """[global]
fsid = {fsid}
mon_host = v1:127.0.0.1:{mon_port}/0
mon_initial_members = a
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
public_addr = 127.0.0.1
run_dir = {folder}
admin_socket =
log_file = {folder}/$name.log
crash_dir = {folder}/crash
keyring = {folder}/keyring
ms_bind_msgr2 = false
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_max_pg_per_osd = 1000
mon_osd_min_up_ratio = 0
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
osd_class_update_on_start = false
osd_crush_update_on_start = false
memstore_device_bytes = 8589934592
rgw_frontends = beast endpoint=127.0.0.1:{rgw_port}
rgw_thread_pool_size = 32
rgw_multipart_min_part_size = 65536
rgw_dynamic_resharding = false
rgw_override_bucket_index_max_shards = 1
rgw_bucket_quota_ttl = 0
rgw_enable_gc_threads = false
rgw_enable_lc_threads = false
rgw_enable_quota_threads = false
rgw_enable_usage_log = false
rgw_run_sync_thread = false
"""


def missing_packages() -> list[str]:
    """Name the Debian packages whose programs are not installed."""
    return sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)})


@dataclass(slots=True)
class CephServer:
    """One Ceph in `folder`, which must be empty; `endpoint` is that of its S3 server once it was started."""

    folder: Path
    endpoint: str = ""
    _daemons: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def new_user(self, name: str, *, quota_bytes: int | None = None) -> S3:
        """Make a user with keys of its own; its bucket is not made. With a quota: of each bucket of its."""
        access_key, secret_key = secrets.token_hex(10), secrets.token_hex(20)
        keys = [f"--access-key={access_key}", f"--secret-key={secret_key}"]
        self.admin("user", "create", f"--uid={name}", f"--display-name={name}", *keys)
        if quota_bytes is not None:
            self.admin("quota", "set", "--quota-scope=bucket", f"--uid={name}", f"--max-size={quota_bytes}")
            self.admin("quota", "enable", "--quota-scope=bucket", f"--uid={name}")
        return S3(endpoint=self.endpoint, bucket=f"{name}-captures", access_key=access_key, secret_key=secret_key)

    def admin(self, *words: str) -> None:
        """Run one of radosgw-admin's commands."""
        self._run("radosgw-admin", *words)

    def version(self) -> str:
        """Name the server and its version as its own command says it."""
        said = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True).stdout
        return "Ceph radosgw " + said.split()[2]

    def stop(self) -> None:
        """End the daemons, the last one first; may be called twice."""
        while self._daemons:
            daemon = self._daemons.pop()
            daemon.kill()  # nothing of it is kept
            daemon.wait(30)

    def _start(self) -> None:
        mon_port, rgw_port = _free_port(), _free_port()
        fsid = str(uuid.uuid4())
        for name in ("mon", "osd", "rgw", "crash"):
            (self.folder / name).mkdir(parents=True)
        settings = _SETTINGS.format(fsid=fsid, folder=self.folder, mon_port=mon_port, rgw_port=rgw_port)
        self._conf.write_text(settings, "utf-8")
        self._start_monitor(fsid, mon_port)
        self._start_osd()
        self.endpoint = f"http://127.0.0.1:{rgw_port}"
        self._spawn("radosgw", "-n", "client.rgw.a", "--rgw-data", str(self.folder / "rgw"))
        _until(self._answers, "radosgw", self._daemons[-1])

    def _start_monitor(self, fsid: str, port: int) -> None:
        monmap, data = str(self.folder / "monmap"), str(self.folder / "mon")
        address = f"[v1:127.0.0.1:{port}/0]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--mon-data", data)
        self._spawn("ceph-mon", "-i", "a", "--mon-data", data)

    def _start_osd(self) -> None:
        name, data = str(uuid.uuid4()), str(self.folder / "osd")
        self._run("ceph", "osd", "new", name)  # waits for the monitor
        self._run("ceph", "osd", "crush", "add", "osd.0", "1.0", "host=h", "root=default")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", name, "--osd-data", data)
        self._spawn("ceph-osd", "-i", "0", "--osd-data", data)

    @property
    def _conf(self) -> Path:
        return self.folder / "ceph.conf"

    def _run(self, program: str, *words: str) -> str:
        command = [program, "-c", str(self._conf), *words]
        for _ in range(_TRIES):
            done = subprocess.run(command, capture_output=True, text=True, timeout=_START_SECONDS, cwd=self.folder)
            if done.returncode == 0:
                break  # the client `ceph` sometimes asks before it knows the cluster's id, and is refused
        assert done.returncode == 0, f"{program} {words}: {done.stderr}"
        return done.stdout

    def _spawn(self, program: str, *words: str) -> None:
        """Start a daemon in the foreground; it is killed when the test's process is gone."""
        command = ["setpriv", "--pdeathsig", "KILL", program, "-f", "-c", str(self._conf), *words]
        with (self.folder / f"{program}.out").open("wb") as out:
            self._daemons.append(subprocess.Popen(command, stdout=out, stderr=out, cwd=self.folder))

    def _answers(self) -> bool:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.endpoint, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def policy_without_deletion(bucket: str, writer: str) -> str:
    """Write a bucket policy under which the user `writer` may write and read, and delete nothing."""
    kept = ["s3:PutObject", "s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:GetBucketVersioning"]
    kept += ["s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"]
    kept += ["s3:GetBucketObjectLockConfiguration", "s3:GetObjectRetention", "s3:GetBucketLocation"]
    where = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    who = {"AWS": [f"arn:aws:iam:::user/{writer}"]}
    rule = {"Effect": "Allow", "Principal": who, "Action": kept, "Resource": where}
    return json.dumps({"Version": "2012-10-17", "Statement": [rule]})


def _until(condition, what: str, daemon: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        assert daemon.poll() is None and time.monotonic() < deadline, f"{what} did not start"
        time.sleep(_POLL_SECONDS)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
