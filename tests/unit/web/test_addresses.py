"""Addresses of pictures: which ones are fetched from, however they are spelled."""

from __future__ import annotations

import ipaddress

import pytest

from tests.unit.web.site import names
from web.addresses import AddressNotAllowed, Target, is_public
from web.fetching import Fetcher

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]
NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_public_internet_are_allowed(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_all_others_are_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST.", "127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "0", "①②⑦.0.0.1"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254", "[fd00:ec2::254]"),
    ],
)
def test_no_spelling_of_a_local_address_is_fetched(host: str) -> None:
    with pytest.raises(AddressNotAllowed, match="not on the public internet"):
        Fetcher(1000).fetch(f"http://{host}/")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "http://"),
        ("example.org/a.jpg", "http://"),
        ("//example.org/a.jpg", "http://"),
        ("file:///etc/passwd", "http://"),
        ("ftp://example.org/a.jpg", "http://"),
        ("gopher://example.org/", "http://"),
        ("data:image/png;base64,AAAA", "http://"),
        ("http:///a.jpg", "not a valid"),
        ("http://", "not a valid"),
        ("http://exa mple.org/", "not a valid"),
        ("http://a..b/", "not a valid"),
        ("http://.example.org/", "not a valid"),
        (f"http://{'a' * 64}.org/", "not a valid"),
        ("http://example.org:port/", "not a valid"),
        ("http://example.org:99999/", "not a valid"),
        ("http://[::1/", "not a valid"),
        ("http://example.org\\@127.0.0.1/", "user name"),
        ("http://user@example.org/", "user name"),
        ("http://user:word@example.org/", "user name"),
        ("http://\ud800.org/", "not a valid"),
        ("http://example.org/\ud800", "not a valid"),
        ("http://example.org:22/", "port 22"),
        ("https://example.org:6379/", "port 6379"),
        ("http://example.org:0/", "port 0"),
    ],
)
def test_what_is_no_address_of_a_picture_is_refused(url: str, said: str) -> None:
    with pytest.raises(AddressNotAllowed, match=said):
        Fetcher(1000, resolve=names()).fetch(url)


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("HTTP://Example.ORG", "http://example.org/"),
        (" https://example.org:443/a?b#c ", "https://example.org/a?b"),
        ("http://example.org:8080/a", "http://example.org:8080/a"),
        ("http://example.org./a", "http://example.org/a"),
        ("http://bücher.example/ä ö.jpg?q=ü", "http://xn--bcher-kva.example/%C3%A4%20%C3%B6.jpg?q=%C3%BC"),
        ("http://example.org/%C3%A4%2Fb.jpg?s=a%2Bb+c==&x=[1]/?", None),
        ("http://example.org/a\r\nX-Evil: 1\r\n", "http://example.org/aX-Evil:%201"),
        ("http://[2606:4700::1]:8080/", None),
    ],
)
def test_an_address_is_sent_as_it_was_meant(url: str, whole: str | None) -> None:
    assert Target.parse(url).url == (whole or url)
