"""Addresses of pictures on the internet: how they are read, and which of them may be fetched from."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from common.errors import ImageSearchError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL_LENGTH = 4096

_HOST_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,252}")
# What an address may hold as it is; everything else is percent-encoded. A signed address must stay as it was given.
_PATH_CHARACTERS = "/%:@!$&'()*+,;=~"
_QUERY_CHARACTERS = _PATH_CHARACTERS + "?[]"

# What is not public, after the registries of IANA. Python's own `is_global` differs from version to version.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and the metadata of Alibaba Cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # the host of an Azure machine, at an address that looks public
        "169.254.0.0/16",  # link-local, and the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments, and the metadata of Oracle Cloud
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # protocol assignments, such as Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: any IPv4 address
        "3fff::/20",  # documentation
    )
)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all else in IPv6 is special
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class FetchError(ImageSearchError):
    """The picture at this address cannot be fetched."""


class AddressNotAllowed(FetchError):
    """Nothing is fetched from this address."""


@dataclass(frozen=True)
class Target:
    """One address, taken apart; host and path as they are sent."""

    secure: bool
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str, base: str = "") -> Target:
        """Takes an address apart.

        Args:
            url: The address.
            base: The address that `url` was found at, if it may be relative to that.

        Raises:
            AddressNotAllowed: It is none that is fetched.
        """
        try:
            parts = urlsplit(urljoin(base, url.strip()))
            if parts.scheme not in {"http", "https"}:
                raise AddressNotAllowed("Give an address that begins with http:// or https://.")
            host, port = _host_name(parts.hostname or ""), parts.port
            path = quote(parts.path or "/", _PATH_CHARACTERS)
            query = quote(parts.query, _QUERY_CHARACTERS)
        except ValueError:
            raise AddressNotAllowed("This is not a valid address.") from None
        if "@" in parts.netloc:
            raise AddressNotAllowed("An address with a user name or password is not fetched.")
        secure = parts.scheme == "https"
        port = _default_port(secure) if port is None else port
        return cls(secure, host, port, f"{path}?{query}" if query else path)

    @property
    def authority(self) -> str:
        """Host and port, as in an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _default_port(self.secure) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address."""
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.path}"


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, where a picture may be fetched from."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return is_public(inner)
        if address not in _GLOBAL_UNICAST:
            return False
    return not any(address in network for network in _NOT_PUBLIC)


def resolve_host(host: str, port: int) -> list[Address]:
    """All addresses that the system knows for a host, in the order in which to try them.

    Raises:
        OSError: There are none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(str(place[0])) for *_, place in found))


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for, if packets to it go there."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _host_name(text: str) -> str:
    """A host as it is sent: in lower case, other scripts in their ASCII form.

    Raises:
        ValueError: It cannot be one.
    """
    if ":" in text:
        return str(ipaddress.IPv6Address(text))
    name = text.encode("idna").decode().lower().removesuffix(".")
    if not _HOST_NAME.fullmatch(name):
        raise ValueError(name)
    return name


def _default_port(secure: bool) -> int:
    return 443 if secure else 80
