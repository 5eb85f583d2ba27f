"""The product's settings: one frozen, typed object, read from `IMAGESEARCH_*` environment variables."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from common.errors import ConfigurationError

PREFIX = "IMAGESEARCH_"

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


class LibraryRoot(BaseModel):
    """A named folder that may be indexed and served; its name is the first part of every public path."""

    model_config = ConfigDict(frozen=True)
    name: str
    path: Path


class Settings(BaseModel):
    """Everything that can be set. Each field is the environment variable `IMAGESEARCH_<FIELD IN CAPITALS>`.

    A field that holds a secret can also be given as `IMAGESEARCH_<FIELD>_FILE`, the path of a file with the value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    redis_url: str = Field(
        "redis://localhost:6379/0",
        description="Redis: `redis://`, `rediss://` (TLS) or `unix://`. While `imagesearch up` runs on the data "
        "folder, its own Redis is the default.",
    )
    redis_ca: Path | None = Field(
        None,
        description="For `rediss://`: the file with the certificate that Redis's own is checked against. "
        "Default: those that the system trusts.",
    )
    data_dir: Path = Field(
        Path("data"), description="Folder of the feature store; shared by all hosts. Everything in it can be copied."
    )
    cache_dir: Path | None = Field(
        None,
        description="Folder for data derived from the store, one for each host, on a local disk. "
        "Default: `cache/HOSTNAME` in the data folder.",
    )
    library_roots: tuple[LibraryRoot, ...] = Field(
        (),
        description="Folders that may be indexed and served, separated by `:`, each `NAME=PATH` or `PATH` "
        "(its name is then its last part). Nothing outside them is read for a client.",
    )
    model: str = Field("vgg16", description="`vgg16` (features of fc1), or the path of a `.keras` file.")
    weights: str = Field(
        "auto",
        description="For `vgg16`: `imagenet` (strict), `auto` (ImageNet where it can be had, else untrained), "
        "`untrained`, or the path of a Keras `.h5` file.",
    )
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto", description="Arithmetic of the network: `auto`, `float32`, `bfloat16` or `int8`."
    )
    threads: int = Field(
        0,
        ge=0,
        description="Threads of the network in each worker process. 0: its share of the processors that the machine "
        "or container gives.",
    )
    max_upload_bytes: int = Field(32 * 2**20, gt=0, description="Largest query image accepted, in bytes.")
    max_file_bytes: int = Field(512 * 2**20, gt=0, description="Largest file of the library that is read, in bytes.")
    max_image_pixels: int = Field(150_000_000, gt=0, description="Largest picture decoded, in pixels.")
    api_token: SecretStr | None = Field(
        None,
        description="If set, calls that change anything need `Authorization: Bearer TOKEN`, and the page asks for it.",
    )
    require_auth: Literal["write", "read"] = Field(
        "write",
        description="What needs the token: `write`, what changes anything; `read`, also searching and seeing pictures.",
    )
    search_rate_limit: int = Field(
        0, ge=0, le=60_000, description="Searches a minute for each client, pages of results included. 0: no limit."
    )
    job_rate_limit: int = Field(
        0, ge=0, le=60_000, description="Jobs (indexing, duplicates) a minute that each client may start. 0: no limit."
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        description="Proxies in front of the web tier whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. "
        "Without one it must be 0: else clients choose their own address.",
    )
    allow_url_queries: bool = Field(
        False,
        description="Whether a search may name the URL of a picture, which the server then fetches from the internet.",
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        description="Origins of other sites whose pages may use the API from a browser, such as "
        "`https://photos.example.org`, separated by commas or spaces. `*`: all sites.",
    )
    vector_backend: Literal["faiss", "milvus"] = Field(
        "faiss", description="What finds candidates in large collections: `faiss` (in process) or `milvus`."
    )
    milvus_uri: str | None = Field(None, description="Milvus: a URL, or the path of a Milvus Lite file.")
    log_format: Literal["text", "json"] = Field("text", description="Format of log lines: `text` or `json`.")
    search_ttl_seconds: int = Field(3600, gt=0, description="How long the results of a search are kept, in seconds.")
    search_timeout_seconds: int = Field(
        60, gt=0, description="A search that no worker has answered by then is reported as failed, in seconds."
    )
    max_queued_searches: int = Field(
        200, gt=0, description="Searches that may wait for a query worker; further ones are answered with 503."
    )
    max_queued_bytes: int = Field(
        256 * 2**20, gt=0, description="Bytes of the uploaded pictures of all unanswered searches, which Redis holds."
    )
    batch_seconds: float = Field(15.0, gt=0, description="Work in one batch of an index job, in seconds.")
    visibility_timeout_seconds: int = Field(
        300, ge=10, description="Work of a worker that died goes to another one after this time, in seconds."
    )

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return value

    @field_validator("redis_ca")
    @classmethod
    def _is_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"there is no file {value}")
        return value

    @field_validator("require_auth")
    @classmethod
    def _has_a_token(cls, value: str, info: ValidationInfo) -> str:
        # A token that was refused has an error of its own.
        if value == "read" and info.data.get("api_token", ...) is None:
            raise ValueError("'read' needs a token that lets people in: set IMAGESEARCH_API_TOKEN")
        return value

    @field_validator("library_roots", mode="before")
    @classmethod
    def _parse_roots(cls, value: object) -> object:
        return parse_roots(value) if isinstance(value, str) else value

    @field_validator("library_roots")
    @classmethod
    def _unique_names(cls, value: tuple[LibraryRoot, ...]) -> tuple[LibraryRoot, ...]:
        names = [root.name for root in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two folders are called {name!r}; name them: NAME=PATH")
            if not name or "/" in name or name in {".", ".."}:
                raise ValueError(f"{name!r} cannot name a folder; give NAME=PATH with a name without '/'")
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        return value.replace(",", " ").split() if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _as_browsers_spell_them(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_origin(text) for text in value))

    @property
    def local_cache_dir(self) -> Path:
        """Where this host keeps what it derives from the store (the catalog, candidate indexes)."""
        return self.cache_dir or self.data_dir / "cache" / socket.gethostname()

    @property
    def broker_url(self) -> str:
        """`redis_url` as Celery spells it: a Unix socket is `redis+socket://` there."""
        return self.redis_url.replace("unix://", "redis+socket://", 1)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Reads the settings from the environment.

        Args:
            environ: The environment; the process's own by default.
            **overrides: Fields that win over the environment.

        Raises:
            ConfigurationError: A value cannot be used; the message names the variable.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for field in cls.model_fields:
            variable = PREFIX + field.upper()
            if environ.get(variable):
                values[field] = environ[variable]
            elif path := environ.get(f"{variable}_FILE"):
                try:
                    values[field] = Path(path).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    raise ConfigurationError(f"{variable}_FILE", f"cannot be read ({error})") from error
        values.update(overrides)
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = PREFIX + str(first["loc"][0]).upper() if first["loc"] else "settings"
            raise ConfigurationError(name, first["msg"].removeprefix("Value error, ")) from error


def _origin(text: str) -> str:
    """An origin as browsers spell it: in lower case, without a slash at the end or the scheme's own port.

    Raises:
        ValueError: It is none.
    """
    origin = text.lower().removesuffix("/")
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        raise ValueError(f"{text!r} is no origin: give SCHEME://HOST or SCHEME://HOST:PORT, without a path, or *")
    for scheme, port in (("http:", ":80"), ("https:", ":443")):
        if origin.startswith(f"{scheme}//"):
            origin = origin.removesuffix(port)
    return origin


def parse_roots(text: str) -> tuple[LibraryRoot, ...]:
    """Parses `NAME=PATH:PATH…` into named folders; a path without a name is called by its last part."""
    roots = []
    for part in filter(None, (piece.strip() for piece in text.split(":"))):
        name, equals, path = part.partition("=")
        # A "=" inside a plain path is not a name: names have no "/".
        if not equals or "/" in name:
            name, path = "", part
        absolute = Path(path).expanduser().absolute()
        # A "=" in the name would not survive `format_roots`.
        roots.append(LibraryRoot(name=name or absolute.name.replace("=", "-"), path=absolute))
    return tuple(roots)


def format_roots(roots: tuple[LibraryRoot, ...]) -> str:
    """The inverse of `parse_roots`."""
    return ":".join(f"{root.name}={root.path}" for root in roots)
