"""Lays out what an environment needs of the system it was made on: Python, the libraries they load, and nothing else.

Run in the stage that has the packages: `python rootfs.py /opt/venv /rootfs`. What comes out has no shell, no package
manager and no other program than Python, so whoever gets to run code in a container finds nothing there to go on with.
"""

from __future__ import annotations

import compileall
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

# The parts of the standard library that nothing here uses; packages of the base image's Python are not ours.
LEFT_OUT = shutil.ignore_patterns(
    "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "config-3*", "*-packages", "pydoc_data"
)
# Opened by name, so that `ldd` does not see it: the C library ends threads with it.
OPENED_LATER = ["libgcc_s.so.1"]
SYSTEM_FILES = ["/etc/ssl/certs/ca-certificates.crt", "/etc/nsswitch.conf", "/etc/ld.so.conf", "/etc/os-release"]
UID = 10001
PASSWD = f"root:x:0:0:root:/:/nologin\nimagesearch:x:{UID}:{UID}::/tmp:/nologin\n"
GROUP = f"root:x:0:\nimagesearch:x:{UID}:\n"


def main(venv: Path, target: Path) -> None:
    """Fills an empty folder.

    Args:
        venv: The virtual environment. It is not copied, only what it needs of the system.
        target: The folder that becomes the root.
    """
    # The loader knows the libraries by these links.
    for name in ("lib", "lib64", "bin"):
        if (link := Path("/", name)).is_symlink():
            (target / link.readlink()).mkdir(parents=True)
            (target / name).symlink_to(link.readlink())
    interpreter = venv / "bin" / "python"
    while interpreter.is_relative_to(venv):
        interpreter = interpreter.parent / interpreter.readlink()
    copy(interpreter, target)
    standard_library = Path(sysconfig.get_path("stdlib"))
    copied = below(target, standard_library)
    shutil.copytree(standard_library, copied, symlinks=True, ignore=LEFT_OUT)
    # Official images of Python come without compiled files, and the container cannot write any.
    compileall.compile_dir(copied, quiet=1, stripdir=str(target), prependdir="/", workers=0)

    binaries = [interpreter, *copied.rglob("*.so"), *venv.rglob("*.so*")]
    libraries = {path for path in needed(binaries) if not path.is_relative_to(venv)}
    libraries |= {beside(libraries, name) for name in OPENED_LATER}
    for path in [*sorted(libraries), *map(Path, SYSTEM_FILES)]:
        copy(path, target)
    shutil.copytree("/etc/ld.so.conf.d", target / "etc/ld.so.conf.d")
    (target / "etc/passwd").write_text(PASSWD)
    (target / "etc/group").write_text(GROUP)
    (target / "tmp").mkdir()
    (target / "tmp").chmod(0o1777)
    write_package_records(libraries, target)
    subprocess.run(["ldconfig", "-r", str(target)], check=True)


def below(target: Path, path: Path) -> Path:
    """Where a path of this system lies in the new one."""
    return target / path.relative_to("/")


def copy(path: Path, target: Path) -> None:
    """Copies a file, and if it is a link also what it points to, link by link."""
    path = path.parent.resolve() / path.name
    there = below(target, path)
    there.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        if not there.is_symlink():
            there.symlink_to(path.readlink())
        copy(path.parent / path.readlink(), target)
    elif not there.exists():
        shutil.copy2(path, there)


def needed(binaries: Iterable[Path]) -> set[Path]:
    """The libraries that programs and libraries load, and those that these load in turn."""
    found: set[Path] = set()
    binaries = list(binaries)
    # Libraries that come in a package are found by it, in the order in which it loads them.
    packaged = {binary.name for binary in binaries}
    for binary in binaries:
        listed = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
        missing = set(re.findall(r"^\s*(\S+) => not found", listed, re.MULTILINE)) - packaged
        if missing:
            # Plugins for other hardware, or a driver that the host gives to the container. What is truly needed and
            # missing ends the program at its start.
            print(f"{binary} would load {', '.join(sorted(missing))}, which is not here", file=sys.stderr)
        found.update(Path(name) for name in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", listed, re.MULTILINE))
    return found


def beside(libraries: Iterable[Path], name: str) -> Path:
    """A library in one of the folders that others come from.

    Raises:
        FileNotFoundError: It is in none.
    """
    for folder in sorted({path.parent for path in libraries}):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"{name} is in no folder of the system's libraries")


def write_package_records(libraries: Iterable[Path], target: Path) -> None:
    """Records which Debian packages the files come from, where scanners for known vulnerabilities look for it."""
    folder = target / "var/lib/dpkg/status.d"
    folder.mkdir(parents=True)
    names = {str(variant) for path in libraries for variant in (path, path.resolve())}
    # Paths differ by the link from /lib to /usr/lib; a file that no package owns is reported on standard error.
    names |= {name.removeprefix("/usr") for name in names}
    owners = subprocess.run(["dpkg-query", "-S", *sorted(names)], capture_output=True, text=True, check=False).stdout
    for package in {line.partition(":")[0] for line in owners.splitlines()}:
        record = subprocess.run(["dpkg-query", "-s", package], capture_output=True, text=True, check=True).stdout
        (folder / package).write_text(record)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
