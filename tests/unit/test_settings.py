from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from common.errors import ConfigurationError
from common.settings import PREFIX, LibraryRoot, Settings, format_roots, parse_roots

# field: (text in the environment, value). Every field must be here.
EXAMPLES: dict[str, tuple[str, Any]] = {
    "redis_url": ("rediss://host:6380/1", "rediss://host:6380/1"),
    "redis_ca": (__file__, Path(__file__)),
    "data_dir": ("/srv/data", Path("/srv/data")),
    "cache_dir": ("/var/cache/is", Path("/var/cache/is")),
    "library_roots": ("pics=/mnt/a", (LibraryRoot(name="pics", path=Path("/mnt/a")),)),
    "model": ("/models/m.keras", "/models/m.keras"),
    "weights": ("imagenet", "imagenet"),
    "precision": ("bfloat16", "bfloat16"),
    "threads": ("3", 3),
    "max_upload_bytes": ("1000", 1000),
    "max_file_bytes": ("2000", 2000),
    "max_image_pixels": ("3000", 3000),
    "api_token": ("secret", "secret"),
    "require_auth": ("write", "write"),  # "read" needs a token beside it: tests/unit/web/test_access.py
    "search_rate_limit": ("60", 60),
    "job_rate_limit": ("6", 6),
    "trusted_proxies": ("1", 1),
    "allow_url_queries": ("true", True),
    "cors_origins": ("https://a.example, HTTP://b.example:8080/", ("https://a.example", "http://b.example:8080")),
    "vector_backend": ("milvus", "milvus"),
    "milvus_uri": ("http://milvus:19530", "http://milvus:19530"),
    "log_format": ("json", "json"),
    "search_ttl_seconds": ("60", 60),
    "search_timeout_seconds": ("5", 5),
    "max_queued_searches": ("50", 50),
    "max_queued_bytes": ("1000000", 1_000_000),
    "batch_seconds": ("2.5", 2.5),
    "visibility_timeout_seconds": ("30", 30),
}
BAD = [
    ("redis_url", "http://localhost"),
    ("redis_ca", "/nowhere/ca.pem"),
    ("require_auth", "read"),
    ("search_rate_limit", "-1"),
    ("job_rate_limit", "many"),
    ("trusted_proxies", "-1"),
    ("precision", "float16"),
    ("max_upload_bytes", "0"),
    ("max_upload_bytes", "ten"),
    ("max_file_bytes", "-1"),
    ("max_image_pixels", "1e3x"),
    ("allow_url_queries", "perhaps"),
    ("cors_origins", "a.example"),
    ("cors_origins", "https://a.example/page"),
    ("cors_origins", "https://*.example"),
    ("cors_origins", "null"),
    ("vector_backend", "annoy"),
    ("log_format", "xml"),
    ("search_ttl_seconds", "0"),
    ("search_timeout_seconds", "soon"),
    ("batch_seconds", "nan"),
    ("visibility_timeout_seconds", "9"),
    ("library_roots", "/"),
    ("library_roots", "..=/mnt"),
    ("library_roots", "/mnt/a/pics:/mnt/b/pics"),
]


def value_of(settings: Settings, field: str) -> Any:
    value = getattr(settings, field)
    return value.get_secret_value() if field == "api_token" else value


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.load({}) == Settings()


def test_every_field_has_an_example_here_and_a_description() -> None:
    assert set(EXAMPLES) == set(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize("field", EXAMPLES)
def test_every_field_is_read_from_the_environment(field: str) -> None:
    text, value = EXAMPLES[field]
    assert value_of(Settings.load({PREFIX + field.upper(): text}), field) == value


@pytest.mark.parametrize("field", EXAMPLES)
def test_every_field_is_read_from_a_file(field: str, tmp_path: Path) -> None:
    text, value = EXAMPLES[field]
    file = tmp_path / "secret"
    file.write_text(f"{text}\n", encoding="utf-8")
    assert value_of(Settings.load({f"{PREFIX}{field.upper()}_FILE": str(file)}), field) == value


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESEARCH_BATCH_SECONDS", "3")
    assert Settings.load().batch_seconds == 3


def test_the_variable_wins_over_the_file_and_an_override_over_both(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-file", encoding="utf-8")
    environ = {"IMAGESEARCH_MODEL": "from-variable", "IMAGESEARCH_MODEL_FILE": str(file)}
    assert Settings.load(environ).model == "from-variable"
    assert Settings.load(environ, model="override").model == "override"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.load({"IMAGESEARCH_MAX_FILE_BYTES": "", "IMAGESEARCH_API_TOKEN": ""}) == Settings()


@pytest.mark.parametrize(("field", "text"), BAD)
def test_a_bad_value_names_its_variable(field: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load({PREFIX + field.upper(): text})
    assert caught.value.setting == PREFIX + field.upper()
    assert str(caught.value).startswith(f"{PREFIX}{field.upper()}: ")
    assert "Value error" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["missing", "not text"])
def test_a_secret_file_that_cannot_be_read_names_its_variable(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="IMAGESEARCH_API_TOKEN_FILE: cannot be read"):
        Settings.load({"IMAGESEARCH_API_TOKEN_FILE": str(file)})


def test_a_secret_does_not_show_in_a_log() -> None:
    assert "hush" not in repr(Settings.load({"IMAGESEARCH_API_TOKEN": "hush"}))


def test_settings_are_frozen_and_an_unknown_field_is_an_error() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().model = "other"  # type: ignore[misc]
    with pytest.raises(ConfigurationError, match="IMAGESEARCH_COLOUR"):
        Settings.load({}, colour="red")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (":", []),
        ("/mnt/pics", [("pics", "/mnt/pics")]),
        ("/mnt/pics/", [("pics", "/mnt/pics")]),
        ("holiday=/mnt/pics", [("holiday", "/mnt/pics")]),
        ("a=/x:/mnt/b::c=/z", [("a", "/x"), ("b", "/mnt/b"), ("c", "/z")]),
        (" a=/x : /mnt/b ", [("a", "/x"), ("b", "/mnt/b")]),
        ("/mnt/year=2020", [("year-2020", "/mnt/year=2020")]),
        ("a=/mnt/year=2020", [("a", "/mnt/year=2020")]),
        ("Fotos für Oma=/mnt/ö", [("Fotos für Oma", "/mnt/ö")]),
        ("~/pics", [("pics", str(Path.home() / "pics"))]),
        ("pics", [("pics", str(Path.cwd() / "pics"))]),
    ],
)
def test_library_roots_are_parsed(text: str, expected: list[tuple[str, str]]) -> None:
    roots = parse_roots(text)
    assert [(root.name, str(root.path)) for root in roots] == expected
    assert parse_roots(format_roots(roots)) == roots


def test_two_roots_of_one_name_are_told_how_to_name_them() -> None:
    with pytest.raises(ConfigurationError, match="two folders are called 'pics'; name them: NAME=PATH"):
        Settings.load({"IMAGESEARCH_LIBRARY_ROOTS": "/a/pics:/b/pics"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" ,", ()),
        ("*", ("*",)),
        ("https://a.example,https://a.example/", ("https://a.example",)),
        (
            "http://a.example:80\nhttps://a.example:443 https://a.example:80",
            ("http://a.example", "https://a.example", "https://a.example:80"),
        ),
        ("http://[::1]:8080 capacitor://localhost", ("http://[::1]:8080", "capacitor://localhost")),
    ],
)
def test_origins_are_read_as_browsers_spell_them(text: str, expected: tuple[str, ...]) -> None:
    assert Settings.load({"IMAGESEARCH_CORS_ORIGINS": text}).cors_origins == expected


def test_the_cache_is_on_this_host_unless_it_is_set(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).local_cache_dir.parent == tmp_path / "cache"
    assert Settings(data_dir=tmp_path, cache_dir=tmp_path / "c").local_cache_dir == tmp_path / "c"


@pytest.mark.parametrize(
    ("url", "broker"),
    [("unix:///run/redis.sock", "redis+socket:///run/redis.sock"), ("redis://host/2", "redis://host/2")],
)
def test_the_broker_url_is_spelled_as_celery_does(url: str, broker: str) -> None:
    assert Settings(redis_url=url).broker_url == broker
