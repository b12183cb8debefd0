"""The declared metrics, typed: `telemetry.INGEST_EVENTS` is one of schemas/telemetry.yaml."""

from trimtab.contracts._generated.metrics import *  # noqa: F403 the generated metrics are this module's content
from trimtab.contracts._generated.metrics import METRICS as METRICS
from trimtab.contracts.specs import Metric as Metric
