"""An aircraft's late inbound leg, for its next departure: arrivals in, derived events out.

Run one or several: `python examples/flights/inbound/processor.py` (README.md beside this file says what comes before).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimtab.faust import Processor

flights = Processor("inbound", Path(__file__).resolve().parents[1])


@flights.derive("inbound", of="arrival")
async def inbound(arrival: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """One event for each leg of a known aircraft that came in more than 15 minutes late."""
    if arrival["tailnum"] is None or arrival["arr_delay_min"] <= 15:
        return None
    return {
        "tailnum": arrival["tailnum"],
        "landed_at": arrival["arrived_at"],
        "delay_min": arrival["arr_delay_min"],
    }


if __name__ == "__main__":
    flights.main()
