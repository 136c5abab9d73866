"""The files under docs/deploy/ name what there is: sources, packages, settings, commands, secrets. No engine is needed."""

import re
import shlex
import shutil
import socket
import subprocess
import sys
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from osint_pipeline.cli import COMMANDS, osint
from osint_pipeline.crawling import END_SECONDS
from osint_pipeline.stopping import ORDERLY_SECONDS
from osint_pipeline.visiting import HARD_SECONDS
from settings.service import Service, load
from settings.variables import variable
from storage.errors import StoreUnavailable
from storage.objects import S3, ObjectStore

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "docs" / "deploy"
UNITS = sorted(path for path in DEPLOY.iterdir() if path.suffix in (".service", ".timer"))
SETTINGS = {variable(one.name) for one in fields(Service)}
SECRETS = {variable(one.name) for one in fields(Service) if one.metadata["secret"]}
OWN_SECONDS = load({}).service.stop_seconds + max(END_SECONDS + HARD_SECONDS, ORDERLY_SECONDS)


def steps() -> list[tuple[str, str]]:
    """Each instruction of the Containerfile with its words."""
    text = (DEPLOY / "Containerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in lines]


def of(kind: str) -> list[str]:
    return [words for name, words in steps() if name == kind]


def is_command(words: list[str]) -> bool:
    return words[0] in COMMANDS and CliRunner().invoke(osint, [words[0], "--help"]).exit_code == 0


def test_what_the_image_copies_is_in_the_checkout_and_not_ignored() -> None:
    let_in = {line.removeprefix("!") for line in (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()}
    for words in of("COPY"):
        for source in words.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in let_in, f"{source} is not let into the build"


def test_the_packages_of_the_image_are_debians() -> None:
    (install,) = [words for words in of("RUN") if "apt-get install" in words]
    named = shlex.split(install.split("--no-install-recommends")[1].split("&&")[0])
    assert {"chromium", "python3", "tini"} <= set(named)
    if not shutil.which("apt-cache"):
        pytest.skip("apt-cache is not installed: the packages' names are not looked up")
    known = set(subprocess.run(["apt-cache", "pkgnames"], capture_output=True, text=True, check=True).stdout.split())
    if len(known) < 10_000:
        pytest.skip("the lists of Debian's packages are not here: the names are not looked up")
    assert set(named) <= known


def test_the_image_is_pinned_private_and_starts_a_command_that_there_is() -> None:
    installs = [words for words in of("RUN") if "pip install" in words]
    assert all("--require-hashes" in one or ("--no-deps" in one and "--no-index" in one) for one in installs)
    assert of("USER") == ["osint"] and steps()[-1][0] == "CMD"
    (entry,), (command,) = of("ENTRYPOINT"), of("CMD")
    assert yaml.safe_load(entry) == ["/usr/bin/tini", "--", "osint"], "exec form: signals reach it"
    assert is_command(yaml.safe_load(command))
    set_here = {word.partition("=")[0]: word.partition("=")[2] for words in of("ENV") for word in shlex.split(words)}
    load({name: value for name, value in set_here.items() if name.startswith("OSINT_")})
    assert not SECRETS & set(set_here)
    (health,) = of("HEALTHCHECK")
    assert "127.0.0.1:9464/healthz" in health
    check = yaml.safe_load(health[health.index("[") :])
    assert check[0] == "python3"
    compile(check[2], "healthcheck", "exec")


def test_what_the_image_installs_is_whole(tmp_path: Path) -> None:
    """From what is copied alone a wheel is made without any index, with every module and migration in it."""
    for source in (name for words in of("COPY") for name in words.split()[:-1]):
        there = ROOT / source
        if there.is_dir():
            shutil.copytree(there, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(there, tmp_path / source)
    wanted = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.py")}
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", "made", "."], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "made").iterdir()
    with zipfile.ZipFile(wheel) as made:
        assert wanted <= set(made.namelist())


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return found


def test_the_composition_names_settings_secrets_and_volumes_that_there_are() -> None:
    whole = compose()
    services = whole["services"]
    for name, service in services.items():
        for key, value in service.get("environment", {}).items():
            assert not key.startswith("OSINT_") or key.removesuffix("_FILE") in SETTINGS, f"{name}: {key}"
            assert key not in SECRETS, f"{name}: {key} is a secret: name a file"
            if key.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"], f"{name}: {key}"
        assert set(service.get("secrets", ())) <= set(whole["secrets"]), name
        mounts = [one.split(":")[0] for one in service.get("volumes", ())]
        assert all(one.startswith("./") or one in whole["volumes"] for one in mounts), name
        assert set(service.get("depends_on", {})) <= set(services), name
        ours = {key: str(one) for key, one in service.get("environment", {}).items() if key.startswith("OSINT_")}
        load({key.removesuffix("_FILE"): value for key, value in ours.items()})
    assert all(str(one["file"]).startswith("./secrets/") for one in whole["secrets"].values())


def test_each_worker_is_a_machine_of_its_own_and_may_end_in_order() -> None:
    workers = {name: one for name, one in compose()["services"].items() if name.startswith("worker")}
    assert len(workers) >= 2
    for name, one in workers.items():
        assert one["environment"]["OSINT_MACHINE"] == name
        assert f"{name}:/var/lib/osint-pipeline" in one["volumes"], "its name and its spool stay together"
        assert is_command(one["command"])
        assert int(one["stop_grace_period"].removesuffix("s")) > OWN_SECONDS
        assert one["read_only"] and one["cap_drop"] == ["ALL"]


def test_the_store_of_the_composition_serves_with_its_secrets(tmp_path: Path) -> None:
    """Its line is run by a shell here, with files and a port of our own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "secrets").mkdir()
    (tmp_path / "data").mkdir()
    for name in ("s3_access_key", "s3_secret_key"):
        (tmp_path / "secrets" / name).write_text(f"{name}-of-a-test\n")
    (line,) = compose()["services"]["store"]["command"]
    here = {"$$": "$", "/run/secrets": str(tmp_path / "secrets"), "/var/lib/osint-pipeline": str(tmp_path / "data")}
    for there, ours in {**here, ":9000": address}.items():
        line = line.replace(there, ours)
    environ = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "RCLONE_CONFIG": "/dev/null"}
    serving = subprocess.Popen(["/bin/sh", "-c", line], env=environ, stderr=subprocess.PIPE)
    with serving:
        try:
            keys = {"access_key": "s3_access_key-of-a-test", "secret_key": "s3_secret_key-of-a-test"}
            config = S3(endpoint=f"http://{address}", bucket="osint", patience_seconds=30, attempts=1000, **keys)
            store = ObjectStore.open(config)
            store.ensure_bucket()
            store.put_bytes_once(b"kept", "v1/a", media_type="text/plain")
            assert (tmp_path / "data" / "osint" / "v1" / "a").read_bytes() == b"kept"
            wrong = replace(config, secret_key="wrong")
            with pytest.raises(StoreUnavailable):
                ObjectStore.open(wrong).ensure_bucket()
        finally:
            serving.terminate()


def unit(path: Path) -> list[tuple[str, str]]:
    lines = path.read_text("utf-8").splitlines()
    return [(line.partition("=")[0], line.partition("=")[2]) for line in lines if re.match(r"[A-Za-z]+=", line)]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_one_to_systemd(path: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed: units are only read by the next test")
    for one in UNITS:
        here = one.read_text("utf-8").replace("/opt/osint-pipeline/.venv/bin/osint", sys.executable)
        (tmp_path / one.name).write_text(here)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / path.name)], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if path.name in line or "osint" in line]
    assert not done.returncode and not ours, done.stderr


@pytest.mark.parametrize("path", [one for one in UNITS if one.suffix == ".service"], ids=lambda path: path.name)
def test_a_unit_runs_a_command_with_settings_that_there_are(path: Path) -> None:
    said = unit(path)
    facts = dict(said)
    words = shlex.split(facts["ExecStart"])
    assert Path(words[0]).name == "osint" and is_command(words[1:])
    credentials = {value.split(":")[0] for key, value in said if key == "LoadCredential"}
    for word in (word for key, value in said if key == "Environment" for word in value.split()):
        name, _, value = word.partition("=")
        assert not name.startswith("OSINT_") or name.removesuffix("_FILE") in SETTINGS, name
        assert name not in SECRETS, f"{name} is a secret: name a file"
        if name.endswith("_FILE"):
            assert value.startswith("%d/") and value[3:] in credentials, word
    for key in ("NoNewPrivileges", "PrivateTmp", "ProtectHome"):
        assert facts[key] == "yes", key
    assert facts["ProtectSystem"] == "strict" and facts["StateDirectoryMode"] == "0700" and facts["UMask"] == "0077"
    if facts["Type"] == "exec":
        assert facts["KillMode"] == "mixed" and float(facts["TimeoutStopSec"]) > 2 * OWN_SECONDS
        assert facts["Restart"] == "on-failure" and facts["RestartPreventExitStatus"] == "2"


def test_logs_are_rotated_by_a_file_that_logrotate_takes(tmp_path: Path) -> None:
    text = (DEPLOY / "logrotate").read_text("utf-8")
    assert text.count("{") == text.count("}") == 1 and "copytruncate" in text
    if not shutil.which("logrotate"):
        pytest.skip("logrotate is not installed: the file is only read")
    (tmp_path / "rotate").write_text(text.replace("su osint osint", "su root root"))
    done = subprocess.run(
        ["logrotate", "--debug", "--state", str(tmp_path / "state"), str(tmp_path / "rotate")],
        capture_output=True,
        text=True,
    )
    assert not done.returncode and "error" not in done.stderr, done.stderr
