"""How many brokers a folder's Kafka has, and what each of them is told."""

import struct
from pathlib import Path

import pytest
from trimtab.cli.broker import registered
from trimtab.cli.broker_settings import Node, properties
from trimtab.cli.brokers import BadBrokersError, OtherBrokersError, OwnKafkaError, broker_count
from trimtab.cli.cluster.commands import up
from trimtab.cli.processes import free_port, free_ports

NODES = [Node(number, 9000 + number, 9100 + number) for number in (1, 2, 3)]


def told(node: Node, *nodes: Node) -> dict[str, str]:
    return dict(line.split("=", 1) for line in properties(Path("/log"), node, nodes).splitlines())


def test_three_brokers_keep_three_copies_and_go_on_with_two() -> None:
    third = told(NODES[2], *NODES)
    assert third["controller.quorum.voters"] == "1@127.0.0.1:9101,2@127.0.0.1:9102,3@127.0.0.1:9103"
    assert (third["node.id"], third["advertised.listeners"]) == ("3", "PLAINTEXT://127.0.0.1:9003")
    copies = ("default", "offsets.topic", "transaction.state.log")
    assert {third[f"{what}.replication.factor"] for what in copies} == {"3"}
    assert third["min.insync.replicas"] == third["transaction.state.log.min.isr"] == "2"
    alone = told(NODES[0], NODES[0])
    assert {alone[f"{what}.replication.factor"] for what in copies} == {"1"}
    assert alone["min.insync.replicas"] == alone["transaction.state.log.min.isr"] == "1"


def test_a_folder_keeps_the_number_that_it_began_with(tmp_path: Path) -> None:
    assert broker_count(tmp_path, None) == 1
    assert broker_count(tmp_path, 3) == 3
    with pytest.raises(BadBrokersError, match="--brokers 2"):
        broker_count(tmp_path, 2)
    (tmp_path / "kafka-1").mkdir()
    assert broker_count(tmp_path, None) == broker_count(tmp_path, 3) == 3
    with pytest.raises(OtherBrokersError, match=r"is of 3 .*leave out --brokers"):
        broker_count(tmp_path, 1)


def test_a_lone_brokers_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    assert broker_count(tmp_path, None) == 1
    with pytest.raises(OtherBrokersError, match="TRIMTAB_DATA_DIR"):
        broker_count(tmp_path, 3)


def test_up_refuses_another_number_and_a_number_for_a_kafka_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kafka-0").mkdir()
    monkeypatch.setenv("TRIMTAB_DATA_DIR", str(tmp_path))
    with pytest.raises(OtherBrokersError, match="is of 3"):
        up(brokers=1)
    monkeypatch.setenv("TRIMTAB_KAFKA__BOOTSTRAP_SERVERS", "k:1")
    with pytest.raises(OwnKafkaError, match="names yours"):
        up(brokers=3)


def test_ports_are_those_wanted_and_no_two_the_same() -> None:
    wanted = free_port()
    first, second, third = free_ports([wanted, wanted, None])
    assert first == wanted
    assert len({first, second, third}) == 3
    assert free_ports([wanted], but=[wanted]) != [wanted]


def test_an_answer_says_which_brokers_have_registered() -> None:
    two = struct.pack(">ii", 1, 2) + b"".join(
        struct.pack(">ih2sih", number, 2, b"me", port, -1) for number, port in ((1, 9001), (3, 9003))
    )
    assert registered(two) == [9001, 9003]
    with pytest.raises(struct.error):
        registered(two[:-4])
