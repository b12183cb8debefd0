"""The catalogue of topics: names, numbers, settings, and that the generated files follow from schemas/."""

from pathlib import Path

import pytest
from trimtab.contracts import topics
from trimtab.contracts.generate.__main__ import main, outputs, stale
from trimtab.contracts.generate.source import read
from trimtab.contracts.specs import StageSpec

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_generated_is_current() -> None:
    assert stale(outputs(ROOT, read(ROOT / "schemas"))) == []


def test_the_command_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], ROOT) == 0
    assert capsys.readouterr().err == ""


def test_a_stale_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "schemas").symlink_to(ROOT / "schemas")
    (tmp_path / "ARCHITECTURE.md").write_text((ROOT / "ARCHITECTURE.md").read_text().replace("flowchart LR", "?"))
    assert main(["--check"], tmp_path) == 1
    complaints = capsys.readouterr().err
    assert "ARCHITECTURE.md is stale: run `make gen`" in complaints
    assert "_generated/control.py is stale" in complaints


def test_every_topic_of_a_loop_is_created_once() -> None:
    names = [spec.name for spec in topics.of_loop("flights", ["departure", "arrival"], 2)]
    assert len(names) == len(set(names))
    assert {topics.source("flights", "arrival"), topics.events("flights", "departure")} <= set(names)
    assert topics.changelog("monitor", "detect", "flights") in names


def test_partitions_follow_the_loop_where_they_should() -> None:
    count = {spec.name: spec.partitions for spec in topics.of_loop("flights", ["departure"], 3)}
    assert count[topics.predictions("flights")] == 3
    assert count[topics.signals("flights")] == 1
    assert count[topics.changelog("monitor", "detect", "flights")] == 1
    assert count[topics.changelog("ingest", "accept", "flights")] == 3


def test_control_topics_have_eight_partitions_but_schemas() -> None:
    count = {spec.name: spec.partitions for spec in topics.control()}
    assert count.pop(topics.SCHEMAS) == 1
    assert set(count.values()) == {topics.CONTROL_PARTITIONS}


def test_every_topic_is_kept_and_stamped_by_the_broker() -> None:
    for spec in [*topics.of_loop("flights", ["departure"], 2), *topics.control()]:
        assert spec.config["retention.ms"] == "-1"
        assert spec.config["message.timestamp.type"] == "LogAppendTime"
        assert spec.config["cleanup.policy"] == spec.cleanup


def test_what_everybody_declares_is_read_by_every_stage() -> None:
    assert set(topics.STAGES) <= set(topics.TEMPLATES["loop_declared"].readers)


@pytest.mark.parametrize("stage", topics.STAGES.values(), ids=lambda stage: stage.name)
def test_a_stage_reads_something(stage: StageSpec) -> None:
    assert any(stage.name in template.readers for template in topics.TEMPLATES.values())
