"""Exits are read and checked at start; what is said of a bad one holds nothing of its secret; notes are sealed."""

from dataclasses import replace
from pathlib import Path

import pytest

from osint_pipeline import address
from osint_pipeline.address import ask_address, own_address, read_address
from osint_pipeline.errors import ExitUnusable, for_the_archive
from osint_pipeline.exits import check_exit, exit_of
from osint_pipeline.keys import Signer
from osint_pipeline.sealing import NotOurs
from settings.errors import SettingError
from settings.exits import Exit, read_exit
from settings.service import Loaded, load
from tests.proxyserver import Socks
from tests.rawserver import RawServer, answer, self_signed
from tests.watching import wait_for

SECRET = "geheim-4711"


def loaded(tmp_path: Path, **more: str) -> Loaded:
    return load({"HOME": str(tmp_path), **more})


def test_exits_are_read_from_the_environment_a_file_and_toml(tmp_path: Path) -> None:
    text = f"vilnius=http://mira:{SECRET}%2C%40@proxy.example:3128, warsaw=socks5h://10.0.0.1"
    wanted = Exit(name="vilnius", scheme="http", host="proxy.example", port=3128, user="mira", password=f"{SECRET},@")
    secret = tmp_path / "exits"
    secret.write_text(text.replace(", ", "\n") + "\n")
    listed, tabled = tmp_path / "list.toml", tmp_path / "table.toml"
    vilnius, warsaw = (one.strip() for one in text.split(","))
    listed.write_text(f'exits = ["{vilnius}", "{warsaw}"]\n')
    tabled.write_text(f'[exits]\nvilnius = "{vilnius.partition("=")[2]}"\nwarsaw = "{warsaw.partition("=")[2]}"\n')
    for more in (
        {"OSINT_EXITS": text},
        {"OSINT_EXITS_FILE": str(secret)},
        {"OSINT_CONFIG": str(listed)},
        {"OSINT_CONFIG": str(tabled)},
    ):
        service = loaded(tmp_path, **more).service
        assert exit_of(service, "vilnius") == wanted
        warsaw_exit = exit_of(service, "warsaw")
        assert warsaw_exit and (warsaw_exit.scheme, warsaw_exit.port, warsaw_exit.user) == ("socks5", 1080, "")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (f"a=socks4://mira:{SECRET}@h:1", "a: SOCKS4 cannot be used"),
        (f"a=https://mira:{SECRET}@h:1", "a: a proxy that is itself reached by TLS"),
        (f"a=ftp://mira:{SECRET}@h:1", "a: it is neither"),
        (f"socks5://mira:{SECRET}@h:1", "entry 1 has no name"),
        (f"a=http://h,b b=socks5://mira:{SECRET}@h:1", "entry 2 has no name"),
        (f"a=http://mira:{SECRET}:h", "a: its address cannot be read"),
        (f"a=http://mira:{SECRET}/x@h", "a: "),
        (f"a=http://mira:{SECRET}@h:70000", "a: its address cannot be read"),
        (f"a=http://mira:{SECRET}@:1", "a: write http://"),
        (f"a=socks5://{SECRET}@h:1", "a: a user and a password belong together"),
        (f"a=socks5://mira:{SECRET}%D1%8F@h:1", "printable ASCII"),
        (f"a=socks5://mira:{SECRET * 30}@h:1", "at most 255"),
        ("direct=http://h", "'direct' cannot be"),
        ("a=http://h,a=http://i", "is there twice"),
    ],
)
def test_a_bad_exit_is_named_without_its_secret(tmp_path: Path, entry: str, says: str) -> None:
    with pytest.raises(SettingError, match=says) as caught:
        loaded(tmp_path, OSINT_EXITS=entry)
    assert "OSINT_EXITS" in str(caught.value) and SECRET not in str(caught.value) + caught.value.advice
    assert SECRET not in repr(caught.value.__cause__) + repr(caught.value.__cause__.__cause__)  # type: ignore[union-attr]


def test_a_proxy_is_a_url_or_the_name_of_an_exit(tmp_path: Path) -> None:
    exits = {"OSINT_EXITS": "warsaw=socks5://10.0.0.1:1080"}
    assert exit_of(loaded(tmp_path, OSINT_PROXY="warsaw", **exits).service, "warsaw") is not None
    for bad in ("lagos", f"socks4://mira:{SECRET}@h", f"https://mira:{SECRET}@h"):
        with pytest.raises(SettingError, match="OSINT_PROXY") as caught:
            loaded(tmp_path, OSINT_PROXY=bad, **exits)
        assert SECRET not in str(caught.value)


def test_what_is_not_known_is_never_passed_by(tmp_path: Path) -> None:
    service = loaded(tmp_path, OSINT_EXITS="warsaw=socks5://10.0.0.1").service
    assert exit_of(service, None) is exit_of(service, "direct") is exit_of(service, "") is None
    for name in ("lagos", "Warsaw", "direct ", "socks4://h"):
        with pytest.raises(ExitUnusable) as caught:
            exit_of(service, name)
        assert for_the_archive(caught.value) == str(caught.value)


def test_secrets_show_nowhere(tmp_path: Path) -> None:
    text = f"warsaw=socks5://mira-kunde:{SECRET}@10.0.0.1:1080"
    found = loaded(tmp_path, OSINT_EXITS=text)
    exit = exit_of(found.service, "warsaw")
    assert exit is not None
    shown = repr(found.service) + repr(found.rows()) + repr(exit) + str(exit) + exit.declared
    assert SECRET not in shown and "mira" not in shown
    assert "warsaw=socks5://********@10.0.0.1:1080" in repr(found.rows())
    assert "10.0.0.1" not in repr(exit) + exit.declared and exit.declared == "socks5 through exit warsaw"
    assert exit.conceal(f"no way to 10.0.0.1:1080 with {SECRET}") == "no way to ... with ..."


def test_a_check_holds_for_a_minute_and_names_no_target() -> None:
    with Socks(login=("mira", SECRET)) as proxy:
        exit = read_exit(proxy.url, "warsaw")
        for _ in range(3):
            check_exit(exit, 5.0)
        wait_for(lambda: proxy.logins == [("mira", SECRET)], 10)  # the proxy notes it when it has answered
        assert proxy.connections == 1 and proxy.asked == []
    check_exit(exit, 5.0)
    with pytest.raises(ExitUnusable, match="exit OSINT_PROXY cannot be used: nobody listens there"):
        check_exit(read_exit("http://127.0.0.1:1"), 5.0)


def test_a_note_opens_for_its_key_and_its_run_alone(tmp_path: Path) -> None:
    one, other = Signer.open(tmp_path / "a"), Signer.open(tmp_path / "b")
    note = one.seal(b"203.0.113.77", "run 1")
    assert Signer.restore(tmp_path / "c", one.sheet()).unseal(note, "run 1") == b"203.0.113.77"
    assert note != one.seal(b"203.0.113.77", "run 1") and len(note) == len(one.seal(b"2001:db8::77", "run 1"))
    for signer, changed, about in (
        (other, note, "run 1"),
        (one, note, "run 2"),
        (one, note[:-8] + "AAAAAAA=", "run 1"),
        (one, "%%%", "run 1"),
        (one, "", "run 1"),
    ):
        with pytest.raises(NotOurs):
            signer.unseal(changed, about)


def test_the_address_is_asked_through_the_exit_and_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_known", {})
    with RawServer({"/ip": answer(b"203.0.113.7\n")}) as server, Socks(hosts={"teller.invalid": "127.0.0.1"}) as proxy:
        service = loaded(tmp_path, OSINT_ADDRESS_URL=f"http://teller.invalid:{server.port}/ip").service
        exit = read_exit(proxy.url)
        assert [own_address(service, exit) for _ in range(3)] == ["203.0.113.7"] * 3
        assert len(server.requests) == 1 and proxy.asked == [("name", "teller.invalid", server.port)]
        assert own_address(replace(service, address_hours=0.0), exit) and len(server.requests) == 2
        assert own_address(replace(service, address_url=None), exit) is None and len(server.requests) == 2


def test_a_teller_whose_certificate_is_not_known_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = self_signed(tmp_path)
    moved = b"HTTP/1.1 302 Found\r\nLocation: /ip\r\nContent-Length: 0\r\n\r\n"
    with RawServer({"/ip": answer(b"203.0.113.7"), "/moved": moved}, tls=context) as server:
        service = loaded(tmp_path, OSINT_ADDRESS_URL=f"{server.url}/ip").service
        assert ask_address(service, None) is None
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "raw.pem"))
        assert ask_address(service, None) == "203.0.113.7"
        assert ask_address(replace(service, address_url=f"{server.url}/moved"), None) is None


@pytest.mark.parametrize("told", [b"203.0.113.7\n", b'{"ip": "203.0.113.7"}', b'{"a":1,"ip":"203.0.113.7"}\n'])
def test_an_address_is_read_as_text_or_json(told: bytes) -> None:
    assert read_address(told) == "203.0.113.7"


@pytest.mark.parametrize("told", [b"", b"<html>", b'{"ip": 1.5}', b"{", b"203.0.113.7 and more", b"\xff"])
def test_what_is_no_address_is_none(told: bytes) -> None:
    with pytest.raises(ValueError):
        read_address(told)
