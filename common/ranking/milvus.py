"""A candidate index in Milvus: beyond one machine as a cluster, by URL; for trials as a Milvus Lite file.

It holds only what follows from the segments, so it may be dropped at any time: whoever fills it does so again.
Nothing that comes from a path or a name becomes part of a filter expression. Folders are compared as chains of
hashes, which are safe in any expression, and prefixes of which can be looked up in an index.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from common.errors import ConfigurationError, VectorBackendUnavailable
from common.ranking.protocol import Query, Rows
from common.store import Segment

# About 1 MiB in a message; Milvus takes up to 64.
_BATCH_ROWS = 1000
# More than this Milvus does not return.
_MOST_ROWS = 16_384
# Without a limit the client tries for minutes when a server is gone.
_SECONDS = 10.0
_SEARCH_SECONDS = 5.0
# Saving a collection, or bringing it into the memory of a cluster.
_LONG_SECONDS = 600.0
# Of each folder's name. Names that get the same code by chance only add candidates that do not count.
_CODE_BYTES = 6
_LONGEST_FOLDER = 65_535  # the most that Milvus allows: 5,461 folders in each other
_LONGEST_ID = 300  # a file's name, which a segment's is, a separator and a number
_LITE_SUFFIX = ".db"


class Projection(Protocol):
    """What the index needs of a `common.ranking.basis.Basis`."""

    @property
    def id(self) -> str:
        """Tells one basis from another."""
        ...

    @property
    def dimension(self) -> int:
        """How many values a reduced vector has."""
        ...

    def project(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Reduces features, (n, d), to (n, m)."""
        ...

    def query(self, query: Query) -> npt.NDArray[np.float32]:
        """Reduces a query, (d,), to (m,)."""
        ...


class MilvusCandidates:
    """See `common.ranking.protocol.CandidateIndex`. Any number of processes may search; one at a time should fill.

    A collection holds the rows; another one beside it, with `_segments` at the end of its name, the segments that
    are in it as a whole. A process that is killed while it adds leaves rows whose segment is not listed: they may be
    found, as rows of a removed image may, and are replaced when the segment is added again.

    Args:
        uri: `http://host:19530`, also with `user:password@`, or the path of a Milvus Lite file, `*.db`.
        fingerprint: The store's: a collection belongs to one store and one basis.
        basis: Makes the vectors that are stored.

    Raises:
        ConfigurationError: `uri` is unusable, or the package is missing.
        VectorBackendUnavailable: Milvus cannot be reached.
    """

    def __init__(self, uri: str | None, fingerprint: str, basis: Projection) -> None:
        self._uri = _checked(uri)
        self._basis = basis
        self._fingerprint = fingerprint
        self._name = _collection(fingerprint, basis.id)
        self._segments = _list_of(self._name)
        self._milvus = _pymilvus()
        with self._reaching():
            self._client = self._milvus.MilvusClient(self._uri, timeout=_SECONDS)
            self._open_collections()
            index = self._client.describe_index(self._name, "vector", timeout=_SECONDS)
            self._index_type = str(index["index_type"])

    # --- the index ---------------------------------------------------------------------------------------------

    def add(self, segment: Segment) -> None:
        """See `CandidateIndex.add`.

        Raises:
            FileNotFoundError: The segment is gone.
            VectorBackendUnavailable: Milvus cannot be reached; the segment is not taken in.
        """
        identity = segment.identity.hex()
        with self._reaching():
            listed = self._client.get(
                self._segments, ids=_key(segment.name), output_fields=["identity"], timeout=_SECONDS
            )
        if listed and listed[0]["identity"] == identity:
            return
        if listed:
            self.remove(segment.name)  # another segment of the same name: that of a store which is no more
        records = segment.records()
        for start in range(0, segment.count, _BATCH_ROWS):
            part = records[start : start + _BATCH_ROWS]
            vectors = self._basis.project(segment.features[start : start + len(part)])
            # Milvus refuses what is no number, and with it all the others.
            vectors = np.nan_to_num(vectors, nan=0.0, posinf=0.0, neginf=0.0)
            self._upsert(
                self._name,
                [
                    {
                        "id": f"{segment.name}:{row}",
                        "segment": _key(segment.name),
                        "folder": _folder_code(record.public_path.rpartition("/")[0]),
                        "vector": vector,
                    }
                    for row, (record, vector) in enumerate(zip(part, vectors, strict=True), start)
                ],
            )
        # Last: what is listed here is there as a whole.
        entry = {"key": _key(segment.name), "name": segment.name, "rows": segment.count, "identity": identity}
        self._upsert(self._segments, [{**entry, "unused": [0.0, 0.0]}])

    def remove(self, name: str) -> None:
        """See `CandidateIndex.remove`."""
        with self._reaching():
            # The rows first: a segment that is still listed will be removed again.
            self._client.delete(self._name, filter=f"segment == {_key(name)}", timeout=_SECONDS)
            self._client.delete(self._segments, ids=[_key(name)], timeout=_SECONDS)

    def names(self) -> set[str]:
        """See `CandidateIndex.names`."""
        return set(self._listed())

    def count(self) -> int:
        """See `CandidateIndex.count`."""
        return sum(self._listed().values())

    def search(self, query: Query, k: int, *, folder: str | None = None) -> dict[str, Rows]:
        """See `CandidateIndex.search`. At most 16,384 rows: Milvus gives no more."""
        limit = min(k, _MOST_ROWS)
        with self._reaching():
            (hits,) = self._client.search(
                self._name,
                data=[self._basis.query(query)],
                anns_field="vector",
                limit=limit,
                filter="" if folder is None else f'folder like "{_folder_code(folder)}%"',
                output_fields=["id"],
                search_params={"metric_type": "IP", "params": _effort(self._index_type, limit)},
                timeout=_SEARCH_SECONDS,
            )
        found: dict[str, list[int]] = {}
        for hit in hits:
            name, _, row = hit["id"].rpartition(":")
            found.setdefault(name, []).append(int(row))
        return {name: np.array(sorted(rows), np.int64) for name, rows in found.items()}

    def snapshot(self) -> None:
        """Has Milvus seal what it took in, which makes it searchable by index. Nothing is lost without it."""
        with self._reaching():
            for collection in (self._name, self._segments):
                self._client.flush(collection, timeout=_LONG_SECONDS)

    def discard(self) -> None:
        """Deletes both collections. This object is of no use afterwards; a new one starts empty."""
        # The list first: rows without it are no harm, a list without rows would be.
        self._drop([self._segments, self._name])

    def discard_bases_but(self, kept: Iterable[str]) -> None:
        """Deletes what is stored of this store's other bases, except for some.

        Args:
            kept: The ids of bases with which other processes may still search.
        """
        mine = (_collection(self._fingerprint, basis_id) for basis_id in (self._basis.id, *kept))
        keep = {name for rows in mine for name in (rows, _list_of(rows))}
        with self._reaching():
            found = self._client.list_collections(timeout=_SECONDS)
        others = [name for name in found if name.startswith(_collection(self._fingerprint, "")) and name not in keep]
        self._drop(sorted(others, reverse=True))  # the list is the longer name

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()

    # --- inside ------------------------------------------------------------------------------------------------

    def _open_collections(self) -> None:
        varchar, number = self._milvus.DataType.VARCHAR, self._milvus.DataType.INT64
        vector = self._milvus.DataType.FLOAT_VECTOR
        if not self._client.has_collection(self._name, timeout=_SECONDS):
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", varchar, is_primary=True, max_length=_LONGEST_ID)
            schema.add_field("segment", number)
            schema.add_field("folder", varchar, max_length=_LONGEST_FOLDER)
            schema.add_field("vector", vector, dim=self._basis.dimension)
            # Session: this process finds what it has added; others a little later.
            self._create(self._name, schema, _indexes(self._uri), "Session")
        if not self._client.has_collection(self._segments, timeout=_SECONDS):
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("key", number, is_primary=True)
            schema.add_field("name", varchar, max_length=_LONGEST_ID)
            schema.add_field("rows", number)
            schema.add_field("identity", varchar, max_length=64)
            schema.add_field("unused", vector, dim=2)  # Milvus wants a vector in every collection
            self._create(self._segments, schema, {"unused": {"index_type": "FLAT", "metric_type": "L2"}}, "Strong")
        for collection in (self._name, self._segments):
            self._client.load_collection(collection, timeout=_LONG_SECONDS)

    def _create(self, name: str, schema: Any, indexes: dict[str, dict[str, Any]], consistency: str) -> None:
        parameters = self._client.prepare_index_params()
        for field, index in indexes.items():
            parameters.add_index(field_name=field, **index)
        try:
            self._client.create_collection(
                name, schema=schema, index_params=parameters, consistency_level=consistency, timeout=_LONG_SECONDS
            )
        except self._milvus.MilvusException:
            # Another process may have made it at the same moment.
            if not self._client.has_collection(name, timeout=_SECONDS):
                raise

    def _upsert(self, collection: str, rows: list[dict[str, Any]]) -> None:
        with self._reaching():
            self._client.upsert(collection, rows, timeout=_SECONDS)

    def _drop(self, collections: Iterable[str]) -> None:
        with self._reaching():
            for collection in collections:
                self._client.drop_collection(collection, timeout=_SECONDS)

    def _listed(self) -> dict[str, int]:
        """The segments that were taken in, and how many rows each has."""
        listed: dict[str, int] = {}
        with self._reaching():
            pages = self._client.query_iterator(
                self._segments, batch_size=_BATCH_ROWS, output_fields=["name", "rows"], timeout=_SECONDS
            )
            while page := pages.next():
                listed.update((entry["name"], entry["rows"]) for entry in page)
            pages.close()
        return listed

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except self._milvus.MilvusException as error:
            raise VectorBackendUnavailable(_shown(self._uri), error.message) from error


def _indexes(uri: str) -> dict[str, dict[str, Any]]:
    """How the rows are indexed by field, unless someone has chosen another way in Milvus itself."""
    if _is_file(uri):
        return {"vector": {"index_type": "FLAT", "metric_type": "IP"}}
    return {
        "vector": {"index_type": "HNSW", "metric_type": "IP", "params": {"M": 16, "efConstruction": 200}},
        "segment": {"index_type": "INVERTED"},
        "folder": {"index_type": "INVERTED"},
    }


def _effort(index_type: str, limit: int) -> dict[str, int]:
    """How thoroughly an index is searched, by its type. Candidates that are missed here no re-ranking brings back."""
    if index_type.startswith("HNSW"):
        return {"ef": max(2 * limit, 128)}
    if index_type.startswith("IVF"):
        return {"nprobe": 32}
    if index_type == "DISKANN":
        return {"search_list": max(2 * limit, 128)}
    return {}


def _collection(fingerprint: str, basis_id: str) -> str:
    """The name of the collection of rows: letters, digits and underscores."""
    return re.sub(r"\W", "_", f"imagesearch_{fingerprint}_{basis_id}", flags=re.ASCII)


def _list_of(rows: str) -> str:
    """The name of the collection of the segments whose rows another one holds."""
    return f"{rows}_segments"


def _key(name: str) -> int:
    """A number of 63 bits that stands for a segment: unlike its name, it is safe in an expression."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


def _folder_code(folder: str) -> str:
    """A code of fixed length for each part of a folder's path: below a folder is what starts with its code."""
    parts = folder.split("/")
    return "".join(
        hashlib.blake2b(part.encode("utf-8", "surrogatepass"), digest_size=_CODE_BYTES).hexdigest() for part in parts
    )


def _checked(uri: str | None) -> str:
    if not uri:
        raise ConfigurationError(
            "IMAGESEARCH_MILVUS_URI", "needed by IMAGESEARCH_VECTOR_BACKEND=milvus: http://host:19530, or a file *.db"
        )
    if _is_file(uri):
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
    elif urlsplit(uri).scheme not in ("http", "https"):
        raise ConfigurationError(
            "IMAGESEARCH_MILVUS_URI", f"{_shown(uri)} is neither http://host:19530 nor a file *.db"
        )
    return uri


def _is_file(uri: str) -> bool:
    return "://" not in uri and uri.endswith(_LITE_SUFFIX)


def _shown(uri: str) -> str:
    """The URI without its password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def _pymilvus() -> Any:
    """The package, imported only here: it takes a second and is an optional extra."""
    # It would load a `.env` file from a folder above its own, such as the one that is meant for Compose.
    os.environ.setdefault("PYTHON_DOTENV_DISABLED", "1")
    try:
        import pymilvus
    except ImportError as error:
        raise ConfigurationError(
            "IMAGESEARCH_VECTOR_BACKEND", 'milvus needs more packages: pip install "imagesearch[milvus]"'
        ) from error
    # It prints each error with its traceback before it raises it, and Milvus Lite each call that it does not have.
    for name in ("pymilvus", "pymilvus.milvus_client", "grpc._server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return pymilvus
