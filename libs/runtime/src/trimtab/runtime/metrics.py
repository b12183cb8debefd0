"""Declared metrics as Prometheus sees them. What is not in schemas/telemetry.yaml cannot be recorded."""

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from trimtab.contracts.specs import Metric
from trimtab.runtime.errors import UndeclaredAttributeError
from trimtab.runtime.stage import Measure

_UNITS = {"s": "seconds", "By": "bytes", "1": "ratio"}
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0)
_COUNTS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)


def prometheus_name(metric: Metric) -> str:
    """The metric's name in a query, without the `_bucket`, `_sum`, `_count` of a histogram.

    >>> from trimtab.contracts import telemetry
    >>> prometheus_name(telemetry.RUNTIME_RECORDS_READ), prometheus_name(telemetry.RUNTIME_STEP_DURATION)
    ('trimtab_runtime_records_read_total', 'trimtab_runtime_step_duration_seconds')
    """
    return _base_name(metric) + ("_total" if metric.kind == "counter" else "")


def label_name(attribute: str) -> str:
    """An attribute's name in a query.

    >>> label_name("http.route")
    'http_route'
    """
    return attribute.replace(".", "_")


def _base_name(metric: Metric) -> str:
    name = metric.name.replace(".", "_").replace("-", "_")
    unit = _UNITS.get(metric.unit) if metric.unit != "1" or metric.kind == "gauge" else None
    return f"{name}_{unit}" if unit else name


class Metrics:
    """The metrics of one process; each appears once it has been recorded."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
        self._registry = CollectorRegistry()
        self._known: dict[str, Counter | Gauge | Histogram] = {}
        ProcessCollector(registry=self._registry)

    def record(self, measures: Iterable[Measure]) -> None:
        """Add to counters, observe in histograms, set gauges. Raises UndeclaredAttributeError."""
        for measure in measures:
            metric = measure.metric
            known = self._known.get(metric.name) or self._make(metric)
            if not measure.attributes.keys() <= set(metric.attributes):
                raise UndeclaredAttributeError(metric.name, set(measure.attributes) - set(metric.attributes))
            child = known.labels(*[measure.attributes.get(name, "") for name in metric.attributes])
            if isinstance(child, Counter):
                child.inc(measure.value)
            elif isinstance(child, Gauge):
                child.set(measure.value)
            else:
                child.observe(measure.value)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _make(self, metric: Metric) -> Counter | Gauge | Histogram:
        name, labels = _base_name(metric), [label_name(attribute) for attribute in metric.attributes]
        made: Counter | Gauge | Histogram
        if metric.kind == "counter":
            made = Counter(name, metric.description, labels, registry=self._registry)
        elif metric.kind == "gauge":
            made = Gauge(name, metric.description, labels, registry=self._registry)
        else:
            buckets = _SECONDS if metric.unit == "s" else _COUNTS
            made = Histogram(name, metric.description, labels, buckets=buckets, registry=self._registry)
        self._known[metric.name] = made
        return made
