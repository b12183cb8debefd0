"""What the local cluster writes down, shows and hands to its services."""

import fcntl
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from trimtab.cli.__main__ import COMMANDS, build
from trimtab.cli.cluster import view
from trimtab.cli.cluster.address import Addresses, NoKafkaError, find
from trimtab.cli.cluster.keys import SIGNERS, KeyFiles
from trimtab.cli.cluster.log_files import NoLogError, follow, last_lines, log_files
from trimtab.cli.cluster.programs import SERVICES, Cluster
from trimtab.cli.cluster.state import ClusterState, ProcessState, StateFile, left_behind, taken_over
from trimtab.cli.cluster.status import LoopStatus, ServiceStatus, Status, StatusReader, TaskStatus, loop_of, tasks_of
from trimtab.cli.lazy import LazyCommand
from trimtab.cli.processes import Identity, end, free_port, identity, is_alive, spawn
from trimtab.cli.settings import ClusterSettings, KafkaSettings
from trimtab.runtime.kafka.connection import Connection
from trimtab.store.signing import Signer, Verifier

KAFKA = ProcessState("kafka", 0, "ready", 1.0, Identity(11, 1.0), "kafka://127.0.0.1:9092")
INGEST = ProcessState("ingest", 0, "not ready", 2.0, Identity(12, 2.0), "http://127.0.0.1:8401", restarts=3)
STATE = ClusterState(Identity(10, 0.5), "127.0.0.1:9092", (KAFKA, INGEST), zipkin="http://127.0.0.1:9411")


def test_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    assert file.read() is None
    with file.held() as mine:
        assert mine
        file.write(STATE)
        assert file.read() == STATE
        assert file.is_held()
        with StateFile(tmp_path).held() as second:
            assert not second
    assert not file.is_held()
    assert [who.pid for who in left_behind(STATE)] == [12, 11], "what was started last is ended first"


def test_a_cluster_is_ready_with_its_services_and_not_by_what_an_earlier_one_left() -> None:
    assert not replace(STATE, processes=(KAFKA,)).is_ready, "the services are started when Kafka answers"
    assert not STATE.is_ready
    whole = replace(STATE, processes=(KAFKA, replace(INGEST, phase="ready")))
    assert whole.is_ready
    taken = taken_over(whole, Identity(20, 9.0))
    assert (taken.supervisor.pid, taken.is_ready) == (20, False)
    assert left_behind(taken) == left_behind(whole), "what has to be ended is still known if this one is killed, too"


@pytest.mark.parametrize("text", ["", "{}", '{"supervisor": 1}', "[]"])
def test_a_state_of_another_form_counts_as_none(tmp_path: Path, text: str) -> None:
    file = StateFile(tmp_path)
    with file.held():
        (tmp_path / "run" / "cluster.json").write_text(text)
        assert file.read() is None


def test_keys_are_made_once_and_belong_together(tmp_path: Path) -> None:
    keys = KeyFiles(tmp_path / "keys")
    keys.ensure()
    first = {path.name: path.read_bytes() for path in keys.folder.iterdir()}
    assert len(first) == 2 * len(SIGNERS)
    (keys.folder / "trainer.public.pem").unlink()
    keys.ensure()
    again = {path.name: path.read_bytes() for path in keys.folder.iterdir()}
    assert again["registry.private.pem"] == first["registry.private.pem"]
    trainer, registry = keys.environment("trainer"), keys.environment("registry")
    signer = Signer.load(Path(trainer["TRIMTAB_SIGNING__PRIVATE_KEY_FILE"]))
    Verifier.load(Path(registry["TRIMTAB_SIGNING__PUBLIC_KEY_FILE"])).check(signer.sealed({"a": 1}))
    assert keys.environment("monitor") == {}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_understands_every_setting_it_is_given(service: str, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "127.0.0.1:1234", KeyFiles(tmp_path / "keys"), "http://127.0.0.1:9411")
    program = cluster.service(service, 1, 8400, {"HOME": "/", "TRIMTAB_HTTP__PORT": "1"})
    assert program.argv == (sys.executable, "-m", f"trimtab.{service.replace('-', '_')}")
    assert program.log == tmp_path / "logs" / f"{service}-1.log"
    assert program.env["HOME"] == "/"
    settings = importlib.import_module(f"trimtab.{service.replace('-', '_')}.settings").Settings
    nested: dict[str, Any] = {}
    for name, value in program.env.items():
        if name.startswith("TRIMTAB_"):
            group, _, leaf = name.removeprefix("TRIMTAB_").lower().partition("__")
            if group in settings.model_fields and leaf:
                nested.setdefault(group, {})[leaf] = value
    built = settings(**nested)
    assert built.kafka.bootstrap_servers == "127.0.0.1:1234"
    assert built.http.port == 8400, "the cluster chooses ports, not what the user's shell happens to hold"
    assert built.zipkin.endpoint == "http://127.0.0.1:9411/api/v2/spans"


def test_a_users_own_store_and_database_win(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "k:1", KeyFiles(tmp_path / "keys"))
    own = {"TRIMTAB_STORE__URL": "s3://mine/blobs", "TRIMTAB_REGISTRY__DATABASE_URL": "postgresql+psycopg://db/mine"}
    assert own.items() <= cluster.service("registry", 0, 1, own).env.items()
    assert cluster.service("registry", 0, 1, {}).env["TRIMTAB_STORE__URL"] == (tmp_path / "blobs").as_uri()


def test_logs_are_read_together_and_followed(tmp_path: Path) -> None:
    (tmp_path / "ingest-0.log").write_text("one\ntwo\n")
    (tmp_path / "ingest-1.log").write_text("three\n")
    (tmp_path / "kafka.log").write_text("four\n")
    files = log_files(tmp_path, "ingest")
    assert list(last_lines(files, 1)) == [("ingest-0", "two"), ("ingest-1", "three")]
    assert set(log_files(tmp_path, None)) == {"ingest-0", "ingest-1", "kafka"}
    with pytest.raises(NoLogError, match="did you mean ingest"):
        log_files(tmp_path, "ingst")

    def grow(_: float) -> None:
        with (tmp_path / "ingest-1.log").open("a") as file:
            file.write("hal" if grown == 0 else "f\nmore\n")
        advance()

    grown = 0

    def advance() -> None:
        nonlocal grown
        grown += 1

    following = follow(files, grow)
    assert next(following) == ("ingest-1", "half")
    assert next(following) == ("ingest-1", "more")


ANSWER: Mapping[str, Any] = {
    "service": "ingest",
    "reasons": [],
    "stages": [
        {
            "group": "ingest.accept.flights",
            "tasks": [
                {
                    "partition": number,
                    "state": "running",
                    "reason": None,
                    "positions": {"flights.source.departure": 7},
                    "lag": 5,
                    "progress_ms": progress_ms,
                    "idle": False,
                    "events_per_s": 100.5,
                    "records": 9,
                    "transactions": 2,
                    "restarts": 0,
                    "entries": {},
                }
                for number, progress_ms in enumerate((1_356_998_400_000, None))
            ],
        }
    ],
}


def test_the_table_and_the_json_say_the_same() -> None:
    loop = LoopStatus("flights", 3, [1, 2], 1_356_998_400_000, 4, ["deployment 5: bad signature"])
    services = (ServiceStatus(KAFKA), ServiceStatus(INGEST, tasks_of(ANSWER), ["loop flights is starting"]))
    status = Status(STATE.bootstrap, True, services, [loop])
    page = io.StringIO()
    Console(width=160, file=page).print(view.table(status))
    shown = page.getvalue()
    for text in ("ingest", "not ready", "8401", "10", "201", "2013-01-01 00:00", "model 3", "model 2"):
        assert text in shown, text
    assert "refused deployment 5: bad signature" in shown
    assert "ingest: loop flights is starting" in shown
    told = json.loads(view.as_json(status))
    assert (told["ready"], told["kafka"]) == (False, "127.0.0.1:9092")
    [_, ingest] = told["services"]
    assert (ingest["lag"], ingest["events_per_second"], ingest["restarts"]) == (10, 201.0, 3)
    assert ingest["progress"] == "2013-01-01T00:00:00.000Z"
    assert told["loops"][0]["champion"] == 3


def test_every_task_that_stands_still_is_shown() -> None:
    tasks = [
        TaskStatus("monitor.join.a", number, "parked", "failed 5 times", 0, None, True, 0.0, 0, {})
        for number in range(5)
    ]
    reasons = ["a is starting", "b is starting", "c is starting", "d is starting"]
    told = [*reasons, *(f"monitor.join.a-{task.partition} parked: failed 5 times" for task in tasks)]
    page = io.StringIO()
    status = Status(STATE.bootstrap, True, [ServiceStatus(INGEST, tasks, told)], [])
    Console(width=160, file=page).print(view.table(status))
    shown = page.getvalue()
    assert all(f"ingest: monitor.join.a-{number} parked: failed 5 times" in shown for number in range(5))
    assert "c is starting" in shown
    assert "d is starting" not in shown


def test_services_that_something_else_runs_are_seen_as_far_as_they_answer() -> None:
    deployment = {"sequence": 2, "effective_at_ms": 0, "champion": {"version": 7}, "shadows": [], "refused": []}
    scoring = {**ANSWER, "stages": [{**ANSWER["stages"][0], "group": "predictor.score.flights"}]}

    def answer(request: httpx.Request) -> httpx.Response:
        match request.url.port, request.url.path:
            case 1, "/status":
                return httpx.Response(200, json={**ANSWER, "ready": False, "reasons": ["loop flights is starting"]})
            case 2, "/status":
                return httpx.Response(200, json={**scoring, "ready": True})
            case 2, "/v1/loops/flights/deployment":
                return httpx.Response(200, json=deployment)
            case 4, "/status":
                return httpx.Response(200, json={**ANSWER, "stages": [], "ready": True})
            case 4, "/v1/loops":
                return httpx.Response(200, json={"items": [failed, {"loop": "gone"}], "next": None})
        raise httpx.ConnectError("refused", request=request)

    why = {"request_id": "r", "at": "2013-01-02T03:04:00.000Z", "reason": "one_class", "error": "only one class"}
    failed = {"loop": "flights", "training_failed": why}
    services = {"ingest": ["http://h:1"], "predictor": ["http://h:2"], "monitor": ["http://h:3"]}
    services["registry"] = ["http://h:4"]
    with StatusReader(httpx.MockTransport(answer)) as reader:
        found = reader.elsewhere(Addresses(Connection("k:9092"), services))
    assert [one.process.phase for one in found.services] == ["not ready", "ready", "stopped", "ready"]
    assert not found.ready
    assert [one.champion for one in found.loops] == [7]
    page = io.StringIO()
    Console(width=160, file=page).print(view.table(found))
    for text in (
        "ingest: loop flights is starting",
        "monitor: nothing answers at http://h:3",
        "Kafka k:9092",
        "model 7",
        "flights: the last training failed: 2013-01-02 03:04 one_class: only one class",
    ):
        assert text in page.getvalue(), text


def test_a_loop_without_a_model_has_no_champion() -> None:
    answer: dict[str, Any] = {"sequence": None, "effective_at_ms": None, "champion": None, "shadows": [], "refused": []}
    assert loop_of("x", answer) == LoopStatus("x", None, [], None, 0, [])


def test_kafka_is_the_local_cluster_or_the_address_that_is_set(tmp_path: Path) -> None:
    nowhere = ClusterSettings(data_dir=tmp_path, kafka=KafkaSettings())
    with pytest.raises(NoKafkaError, match="trimtab up"):
        find(nowhere)
    own = ClusterSettings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap_servers="k:1"))
    assert find(own).kafka.bootstrap_servers == "k:1"
    assert find(own).services["registry"] == ["http://127.0.0.1:8407"]
    file = StateFile(tmp_path)
    with file.held():
        file.write(STATE)
        assert find(nowhere).kafka.bootstrap_servers == "127.0.0.1:9092"
        assert find(nowhere).services["ingest"] == ["http://127.0.0.1:8401"]


def test_a_process_is_known_by_more_than_its_number(tmp_path: Path) -> None:
    child = spawn([sys.executable, "-c", "import time; time.sleep(60)"], env={}, log=tmp_path / "log")
    who = identity(child.pid)
    assert who is not None
    assert is_alive(who)
    assert not is_alive(Identity(who.pid, who.created - 100))
    end(Identity(who.pid, who.created - 100), 0.1)
    assert is_alive(who), "another process of that number is left alone"
    end(who, 5.0)
    assert child.wait(5) is not None
    assert not is_alive(who)


def test_what_does_not_listen_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = spawn([sys.executable, "-c", deaf], env={}, log=tmp_path / "log")
    while "up" not in (tmp_path / "log").read_text():
        time.sleep(0.01)
    who = identity(child.pid)
    assert who is not None
    end(who, 0.2)
    assert not is_alive(who)
    child.wait(5)


DETACHING = """
import fcntl, pathlib, sys, time
from trimtab.cli.processes import detached
lock = pathlib.Path(sys.argv[1]).open("a")
fcntl.flock(lock, fcntl.LOCK_EX)
copy = detached(pathlib.Path(sys.argv[2]))
print("here" if copy is None else copy.pid, flush=True)
if copy is None:
    time.sleep(60)
"""


def test_a_detached_copy_goes_on_alone_and_holds_nothing_of_its_callers(tmp_path: Path) -> None:
    lock, log = tmp_path / "lock", tmp_path / "logs" / "copy.log"
    argv = [sys.executable, "-c", DETACHING, str(lock), str(log)]
    pid = int(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout)
    try:
        while not log.exists() or "here" not in log.read_text():
            time.sleep(0.01)
        assert os.getsid(pid) == pid
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_port_that_is_taken_is_not_given_out() -> None:
    port = free_port()
    assert free_port(port) == port
    listener = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        while free_port(port) == port:
            time.sleep(0.02)
    finally:
        listener.terminate()
        listener.wait()


@pytest.mark.parametrize(("name", "target"), [(name, target) for name, target, _, _ in COMMANDS])
def test_every_command_can_be_loaded_and_explains_itself(name: str, target: str) -> None:
    command = build().commands[name]
    assert isinstance(command, LazyCommand)
    loaded = command.load()
    assert loaded.help, f"{target} has no docstring"


def test_the_help_imports_no_command() -> None:
    heavy = "import sys; sys.argv = ['trimtab', '--help']\nfrom trimtab.cli.__main__ import build\n"
    heavy += "build()(standalone_mode=False)\n"
    heavy += "print([name for name in ('polars', 'sklearn', 'aiokafka', 'numpy', 'httpx') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
