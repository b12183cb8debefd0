"""Names and specifications of all topics. What is not in schemas/topics does not exist."""

from collections.abc import Sequence

from trimtab.contracts._generated.catalogue import STAGES as STAGES
from trimtab.contracts._generated.catalogue import TEMPLATES as TEMPLATES
from trimtab.contracts._generated.names import *  # noqa: F403 the constants of control topics
from trimtab.contracts.specs import StageSpec, TopicTemplate
from trimtab.contracts.specs import TopicSpec as TopicSpec

CONTROL_PARTITIONS = 8


def source(loop: str, event: str) -> str:
    """Where users produce an event.

    >>> source("flights", "departure")
    'flights.source.departure'
    """
    return TEMPLATES["source"].topic.format(loop=loop, event=event)


def accepted(loop: str, event: str) -> str:
    """Events that keep the contract, copies included."""
    return TEMPLATES["accepted"].topic.format(loop=loop, event=event)


def events(loop: str, event: str) -> str:
    """Events without copies, under their routing key."""
    return TEMPLATES["events"].topic.format(loop=loop, event=event)


def rejected(loop: str) -> str:
    """The loop's quarantine."""
    return TEMPLATES["rejected"].topic.format(loop=loop)


def grouped(loop: str) -> str:
    """Events re-keyed by feature group."""
    return TEMPLATES["grouped"].topic.format(loop=loop)


def online(loop: str) -> str:
    """Tiles of online feature values."""
    return TEMPLATES["online"].topic.format(loop=loop)


def answered(loop: str) -> str:
    """Predictions made over HTTP, before the stream has taken them in."""
    return TEMPLATES["answered"].topic.format(loop=loop)


def predictions(loop: str) -> str:
    """Every prediction."""
    return TEMPLATES["predictions"].topic.format(loop=loop)


def joinable(loop: str) -> str:
    """Asks and label events, re-keyed to meet."""
    return TEMPLATES["joinable"].topic.format(loop=loop)


def outcomes(loop: str) -> str:
    """What became of the predictions."""
    return TEMPLATES["outcomes"].topic.format(loop=loop)


def signals(loop: str) -> str:
    """What the detectors watch."""
    return TEMPLATES["signals"].topic.format(loop=loop)


def changelog(service: str, verb: str, loop: str | None = None) -> str:
    """Positions and tables of a stage; without a loop, of a stage that serves all loops.

    >>> changelog("ingest", "dedupe", "flights"), changelog("trainer", "fit")
    ('flights.ingest-dedupe.changelog', 'trainer-fit.changelog')
    """
    if loop is None:
        return TEMPLATES["control_changelog"].topic.format(service=service, verb=verb)
    return TEMPLATES["changelog"].topic.format(loop=loop, service=service, verb=verb)


def group(service: str, verb: str, loop: str | None = None) -> str:
    """Consumer group of a stage.

    >>> group("ingest", "dedupe", "flights"), group("trainer", "fit")
    ('ingest.dedupe.flights', 'trainer.fit')
    """
    return f"{service}.{verb}" if loop is None else f"{service}.{verb}.{loop}"


def stage_partitions(service: str, verb: str, partitions: int) -> int:
    """Tasks of a stage in a loop of that many partitions."""
    declared = STAGES[f"{service}.{verb}"].partitions
    return partitions if declared == "loop" else declared


def of_loop(name: str, events: Sequence[str], partitions: int) -> list[TopicSpec]:
    """All topics of a loop, the users' sources and the changelogs included."""
    found = []
    for template in TEMPLATES.values():
        if template.per == "loop":
            found.append(_spec(template, template.topic.format(loop=name), partitions))
        if template.per == "event":
            found += [_spec(template, template.topic.format(loop=name, event=event), partitions) for event in events]
    return found + [_changelog_spec(stage, name, partitions) for stage in STAGES.values() if stage.per == "loop"]


def control() -> list[TopicSpec]:
    """All topics that loops share, the changelogs of the stages that serve all loops included."""
    shared = [
        _spec(template, template.topic, CONTROL_PARTITIONS) for template in TEMPLATES.values() if template.per == "all"
    ]
    stages = [stage for stage in STAGES.values() if stage.per == "all"]
    return shared + [_changelog_spec(stage, None, CONTROL_PARTITIONS) for stage in stages]


def _changelog_spec(stage: StageSpec, loop: str | None, partitions: int) -> TopicSpec:
    count = partitions if stage.partitions == "loop" else stage.partitions
    template = TEMPLATES["control_changelog" if loop is None else "changelog"]
    return _spec(template, changelog(stage.service, stage.verb, loop), count)


def _spec(template: TopicTemplate, name: str, partitions: int) -> TopicSpec:
    count = template.partitions if isinstance(template.partitions, int) else partitions
    return TopicSpec(name, count, template.config(), template.cleanup, template.name)
