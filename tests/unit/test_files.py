from __future__ import annotations

from pathlib import Path

import pytest

from common.files import atomic_path, write_atomically


def test_a_file_is_published_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with atomic_path(target, overwrite=False) as temporary:
        temporary.write_bytes(b"data")
        assert not target.exists()
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".tmp"
    assert target.read_bytes() == b"data"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with atomic_path(tmp_path / "file", overwrite=True) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_raises_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(target, overwrite=True) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "a file system without hard links"])
@pytest.mark.parametrize(("overwrite", "expected"), [(True, b"second"), (False, b"first")])
def test_who_wins_when_two_write_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool, expected: bytes, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    if not links:
        monkeypatch.setattr("common.files.os.link", refuse)
    target = tmp_path / "file"
    for data in (b"first", b"second"):
        with atomic_path(target, overwrite=overwrite) as temporary:
            temporary.write_bytes(data)
    assert target.read_bytes() == expected
    assert list(tmp_path.iterdir()) == [target]


def test_write_atomically_replaces_the_content(tmp_path: Path) -> None:
    target = tmp_path / "übung.json"
    write_atomically(target, b"1")
    write_atomically(target, b"2")
    assert target.read_bytes() == b"2"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", b"data")
