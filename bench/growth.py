"""How the loop grows: the same measurement on generated loops of other sizes."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from local import Running
from made import DAY_MS, Size, made
from play import Told, play
from prometheus_client.parser import text_string_to_metric_families
from restore import Restored, restored
from trimtab.cli.replay.slices import Span
from trimtab.loops.files import opened
from whole import Loaded, loaded

MEMORY = "trimtab_predictor_online_memory_bytes"
HISTORY = 0.25
"""Of the events come first and are not counted: they train the model."""


@dataclass(frozen=True, slots=True)
class Grown:
    """One size. `online_mb`: the predictor's replica of feature values. `restored`: services that keep tables."""

    size: Size
    loaded: Loaded
    online_mb: float
    restored: Mapping[str, Restored]


def grown(running: Running, folder: Path, size: Size, told: Told) -> Grown:
    """Declare a generated loop, work its events off, kill those who keep its state, and delete it."""
    now_ms = int(time.time() * 1000)
    loop = made(folder / size.name, size, now_ms)
    running.local.command("apply", str(folder / size.name))
    with opened(loop, folder / size.name / "data") as recorded:
        middle_ms = recorded.first_ms + int(HISTORY * (recorded.last_ms - recorded.first_ms))
        before = Span(recorded.first_ms - 1, middle_ms)
        asyncio.run(play(running.addresses, loop, recorded, before, told, DAY_MS))
        measured = loaded(running, loop, recorded, Span(middle_ms, recorded.last_ms), told)
    online_mb = round(_online_bytes(running.addresses.services["predictor"][0], loop.name) / 2**20, 1)
    told("kills")
    away = {name: restored(running, name, loop.name) for name in ("feature", "predictor", "monitor")}
    running.local.command("delete", "--yes", loop.name)
    return Grown(size, measured, online_mb, away)


def _online_bytes(url: str, loop: str) -> float:
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return next((one.value for one in samples if one.name == MEMORY and one.labels.get("loop") == loop), 0.0)
