"""What the dashboards ask."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Query(NamedTuple):
    """One query of a panel, as Grafana keeps it: with its variables."""

    panel: str
    expression: str
    legend: str


def queries(dashboards: Path) -> Iterator[Query]:
    """Those of every dashboard in a folder."""
    for path in sorted(dashboards.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield Query(panel["title"], target["expr"], target["legendFormat"])
