"""Which names in the library count: one rule for the scan of a folder and for whoever watches it."""

from __future__ import annotations

from common.images import EXTENSIONS

# Folders of thumbnails and waste that file systems, NAS devices and photo programs leave around.
SKIPPED_FOLDERS = frozenset({"@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"})


def is_picture_name(name: str) -> bool:
    """Whether a file of this name is taken for a picture. Hidden files are not."""
    _, dot, extension = name.rpartition(".")
    return not name.startswith(".") and dot + extension.lower() in EXTENSIONS


def is_skipped_folder(name: str) -> bool:
    """Whether a folder of this name is left out, with all that is below it."""
    return name.startswith(".") or name in SKIPPED_FOLDERS


def is_utf8(name: str) -> bool:
    """Whether a name can be stored: a file system may give bytes that are no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
