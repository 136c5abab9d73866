"""The guard: which addresses may be reached, however they are written."""

from ipaddress import ip_address, ip_network

import pytest
from twisted.internet.address import IPv4Address

from osint_pipeline.fetch.guard import AddressRefused, Guard, NameUnknown, embedded, literal
from osint_pipeline.fetch.resolve import lookup

LOOPBACK = Guard(allow=(ip_network("127.0.0.0/8"), ip_network("::1/128")))
PRIVATE = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "192.0.0.192",
    "192.0.2.1", "192.168.1.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1",
    "fc00::1", "ff02::1", "2001:db8::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "2002:7f00:1::", "::127.0.0.1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "2002:808:808::", "93.184.216.34", "2606:4700:4700::1111"]
WRAPPED = ["::ffff:8.8.8.8", "64:ff9b::808:808"]
WRITTEN = [
    ("127.0.0.1", "127.0.0.1"), ("2130706433", "127.0.0.1"), ("0x7f000001", "127.0.0.1"), ("0x7f.1", "127.0.0.1"),
    ("0177.0.0.1", "127.0.0.1"), ("127.1", "127.0.0.1"), ("127.0.0.1.", "127.0.0.1"), ("[::1]", "::1"),
    ("[fe80::1%eth0]", "fe80::1"), ("0", "0.0.0.0"),
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address):
    with pytest.raises(AddressRefused) as refused:
        Guard().check("host.example", ip_address(address))
    assert (refused.value.host, refused.value.address) == ("host.example", str(ip_address(address)))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address):
    Guard().check("host.example", ip_address(address))


@pytest.mark.parametrize("address", WRAPPED)
def test_a_public_address_inside_another_is_refused_until_its_network_is_opened(address):
    with pytest.raises(AddressRefused):
        Guard().check("host.example", ip_address(address))
    Guard(allow=(ip_network("8.8.8.0/24"),)).check("host.example", ip_address(address))


@pytest.mark.parametrize(("host", "address"), WRITTEN)
def test_a_host_is_read_as_an_address_in_every_notation(host, address):
    assert literal(host) == ip_address(address)


@pytest.mark.parametrize("host", ["example.org", "1.example.org", "127.0.0.1.example.org", "", "a", "256.256.256.256"])
def test_a_name_is_no_address(host):
    assert literal(host) is None


@pytest.mark.parametrize("host", [host for host, _ in WRITTEN] + ["localhost", "LOCALHOST.", "a.localhost"])
def test_a_url_is_refused_before_anything_is_looked_up(host):
    with pytest.raises(AddressRefused):
        Guard().check_url(f"http://mira:secret@{host}:8080/path")


def test_what_the_operator_opened_is_allowed_and_nothing_beside_it():
    LOOPBACK.check_url("http://127.0.0.1/")
    LOOPBACK.check_url("http://[::ffff:127.0.0.1]/")
    with pytest.raises(AddressRefused):
        LOOPBACK.check_url("http://10.0.0.1/")


def test_an_address_inside_another_is_found():
    assert ip_address("10.0.0.1") in embedded(ip_address("2002:a00:1::"))
    assert embedded(ip_address("8.8.8.8")) == (ip_address("8.8.8.8"),)


def test_resolving_a_name_refuses_what_it_leads_to():
    with pytest.raises(AddressRefused):
        Guard().resolve("localhost", 80)
    assert set(LOOPBACK.resolve("localhost", 80)) <= {"127.0.0.1", "::1"}
    assert LOOPBACK.resolve("0x7f.1", 80) == ("127.0.0.1",)


def test_a_name_without_an_address_is_unknown():
    with pytest.raises(NameUnknown) as unknown:
        Guard().resolve("does-not-exist.invalid", 80)
    assert unknown.value.host == "does-not-exist.invalid"


def test_an_address_is_not_looked_up():
    assert lookup(None, LOOPBACK, "2130706433", 80).result == (IPv4Address("TCP", "127.0.0.1", 80),)
