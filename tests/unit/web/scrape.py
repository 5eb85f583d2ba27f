"""Reads what `/metrics` answers, with the parser of Prometheus's own library."""

from __future__ import annotations

from flask.testing import FlaskClient
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families


def families(text: str) -> dict[str, Metric]:
    """The metrics of a text by name."""
    return {family.name: family for family in text_string_to_metric_families(text)}


class Scrape:
    """What was said at one moment."""

    def __init__(self, text: str) -> None:
        self.families = families(text)
        self._values = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    @classmethod
    def of(cls, client: FlaskClient) -> Scrape:
        """Asks the web tier."""
        response = client.get("/metrics")
        assert (response.status_code, response.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
        return cls(response.get_data(as_text=True))

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return {name for name, _ in self._values}

    def value(self, name: str, **labels: str) -> float | None:
        """The value of a sample; None if there is none with exactly these labels."""
        return self._values.get((name, tuple(sorted(labels.items()))))

    def values(self, name: str, label: str) -> dict[str, float]:
        """All values of a name, by one of its labels."""
        return {dict(labels)[label]: value for (found, labels), value in self._values.items() if found == name}
