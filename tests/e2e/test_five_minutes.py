"""A person's own data, as README.md tells it: a CSV with a time and a label, a few commands, events, predictions."""

import asyncio
import csv
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from trimtab.testing.clusters import Cluster

DAYS, RIDES = 40, 8_000
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ZONES = ("north", "south", "east", "west")
FIRST = datetime(2026, 2, 9, 23, 50, tzinfo=UTC)
"""Of the live events: just after the recorded ones."""


def write_rides(path: Path) -> None:
    """Rides whose duration follows from their distance, their zone and the hour, and a little chance."""
    draws = np.random.default_rng(7)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ride_id", "asked_at", "zone", "passengers", "distance_km", "duration_min"])
        for number in range(RIDES):
            at = BEGAN + timedelta(days=DAYS) * number / RIDES
            zone, km = int(draws.integers(len(ZONES))), round(float(draws.lognormal(1.5, 0.6)), 2)
            slow = (1.6 if at.hour in (7, 8, 16, 17, 18) else 1.0) * (1 + zone / 10)
            minutes = round(max(2.0, 2.2 * km * slow + float(draws.normal(0, 2))), 1)
            rows.writerow([f"r-{number}", at.isoformat(), ZONES[zone], int(draws.integers(1, 5)), km, minutes])


def ride(name: str, after: timedelta) -> bytes:
    asked_at = (FIRST + after).isoformat()
    return json.dumps({"ride_id": name, "asked_at": asked_at, "zone": "north", "distance_km": 10}).encode()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "data")
    yield made
    made.run("down")


def produce(bootstrap: str, topic: str, value: bytes) -> None:
    """As any Kafka client does it."""

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            await producer.send_and_wait(topic, value)

    asyncio.run(send())


def topics_of(bootstrap: str) -> set[str]:
    """All topics that there are."""

    async def ask() -> set[str]:
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            found: set[str] = await consumer.topics()
            return found

    return asyncio.run(ask())


def post(url: str, body: bytes) -> Mapping[str, Any]:
    """As `curl -d` does it."""
    with urllib.request.urlopen(url, body, timeout=30) as answer:  # noqa: S310  # our own services
        found: Mapping[str, Any] = json.load(answer)
        return found


def predicted(cluster: Cluster, *keys: str) -> dict[str, Any]:
    """The predictions of these keys, once each has one."""
    wanted = [part for key in keys for part in ("--key", key)]
    deadline_s = time.monotonic() + 60
    while True:
        lines = cluster.ok("predictions", "rides", "--json", *wanted).splitlines()
        found = {one["key"]: one for one in map(json.loads, lines)}
        if found.keys() >= set(keys):
            assert len(lines) == len(found)
            return found
        assert time.monotonic() < deadline_s, f"only {sorted(found)}; {cluster.run('rejected', 'rides').stdout}"


@pytest.mark.timeout(400)
def test_from_a_csv_to_predictions_of_live_events(cluster: Cluster, tmp_path: Path) -> None:
    rides = tmp_path / "rides"
    write_rides(tmp_path / "rides.csv")
    sample = [str(tmp_path / "rides.csv"), "--time", "asked_at", "--label", "duration_min", "--label-delay", "2h"]
    drafted = cluster.ok("init", *sample, "--out", str(rides))
    assert "regression" in drafted
    assert " ".join(cluster.ok("check", str(rides)).split()).endswith("is right"), "wherever lines are broken"
    assert "loop" in cluster.ok("backtest", str(rides), "--policy", "never", "--policy", "loop")
    cluster.ok("up", "--detach")
    assert "version 1" in cluster.ok("apply", str(rides))
    assert f"{2 * RIDES:,} events" in cluster.ok("replay", str(rides))

    status = cluster.status()
    (loop,) = status["loops"]
    assert loop["champion"] is not None
    assert cluster.ok("rejected", "rides") == "nothing is in quarantine\n"
    urls = {one["service"]: one["url"] for one in status["services"]}
    produce(status["kafka"], "rides.source.asked", ride("by-kafka", timedelta()))
    taken = post(f"{urls['ingest']}/v1/loops/rides/events/asked", ride("by-curl", timedelta(minutes=1)))
    assert taken == {"accepted": 1, "rejected": 0, "events": [{"verdict": "accepted", "id": "by-curl"}]}
    answer = post(f"{urls['predictor']}/v1/loops/rides/predictions", ride("at-once", timedelta(minutes=2)))

    found = predicted(cluster, "by-kafka", "by-curl", "at-once")
    assert {one["version"] for one in found.values()} == {answer["version"]}
    assert found["at-once"]["score"] == pytest.approx(answer["score"])
    for one in found.values():
        assert one["features"]["labelled_by_zone_n_3d"] > 100
        assert one["score"] == pytest.approx(22, abs=5), "2.2 minutes a kilometre"
    assert [one["origin"] for one in found.values()].count("http") == 1

    asked = f"{urls['ingest']}/v1/loops/rides/events/asked"
    end(cluster, status["kafka"])
    soon(lambda: verdict(asked, ride("too-late", timedelta(minutes=3))) is None)
    assert cluster.run("predictions", "rides").returncode
    soon(lambda: {one["state"] for one in cluster.status()["services"]} == {"ready"})
    assert "version 2" in cluster.ok("apply", str(rides))
    soon(lambda: verdict(asked, ride("by-curl", timedelta(minutes=1))) == "accepted")


def end(cluster: Cluster, bootstrap: str) -> None:
    """Ends the loop with all that was written, for none but who means it."""
    unasked = cluster.run("delete", "rides")
    assert unasked.returncode, unasked.stdout
    assert "rides" in cluster.ok("loops")
    assert "deleted" in cluster.ok("delete", "rides", "--yes")
    assert "no loop" in cluster.ok("loops")
    assert not [topic for topic in topics_of(bootstrap) if topic.startswith("rides.")]


def verdict(url: str, event: bytes) -> str | None:
    """On an event; None where the loop is not known (any more, or yet)."""
    try:
        found: str = post(url, event)["events"][0]["verdict"]
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        return None
    return found


def soon(holds: Callable[[], bool]) -> None:
    """Services hear of a declaration by the log: a moment after the command."""
    deadline_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
