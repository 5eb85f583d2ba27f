"""Hosts made of network, mount and UTS namespaces: each with an address, a name and mounts of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PREFIX = "imgsearch"


def can_make_hosts() -> bool:
    """Whether this user and machine can make namespaces."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "mount"))):
        return False
    probe = f"{PREFIX}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode == 0
    if made:
        _ip("netns", "del", probe)
    return made


class Host:
    """A host in the little network.

    Args:
        number: Its last byte in 10.77.0.0/24, and part of its name.
    """

    def __init__(self, number: int) -> None:
        self.name = f"{PREFIX}-{os.getpid()}-{number}"
        self.address = f"10.77.0.{number}"

    def command(self, command: list[str], mounts: Mapping[Path, Path] | None = None) -> list[str]:
        """How to run a command on this host.

        Args:
            command: The command.
            mounts: Folders that this host sees at places of its own: place to folder.
        """
        binds = "".join(f"mount --bind '{source}' '{place}' && " for place, source in (mounts or {}).items())
        script = f'hostname {self.name} && {binds}exec "$@"'
        return ["ip", "netns", "exec", self.name, "unshare", "--mount", "--uts", "sh", "-c", script, "sh", *command]


@contextmanager
def network(count: int) -> Iterator[list[Host]]:
    """So many hosts that reach each other and nothing else."""
    hosts = [Host(number) for number in range(1, count + 1)]
    hub = f"{PREFIX}-{os.getpid()}-hub"
    made = []
    try:
        _ip("netns", "add", hub)
        made.append(hub)
        _in(hub, "link", "add", "br0", "type", "bridge")
        _in(hub, "link", "set", "br0", "up")
        for number, host in enumerate(hosts, start=1):
            _ip("netns", "add", host.name)
            made.append(host.name)
            _in(hub, "link", "add", f"h{number}", "type", "veth", "peer", "name", "eth0", "netns", host.name)
            _in(hub, "link", "set", f"h{number}", "master", "br0", "up")
            _in(host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _in(host.name, "link", "set", "eth0", "up")
            _in(host.name, "link", "set", "lo", "up")
        yield hosts
    finally:
        for name in made:
            _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _in(namespace: str, *arguments: str) -> None:
    _ip("-n", namespace, *arguments)
