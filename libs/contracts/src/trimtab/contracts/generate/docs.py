"""What people read: the topic graphs of ARCHITECTURE.md, docs/topics.md and docs/metrics.md."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from trimtab.contracts.generate.source import Sources
from trimtab.contracts.specs import StageSpec, TopicTemplate

START = "<!-- {name}: begin (make gen) -->"
END = "<!-- {name}: end -->"
_TOPICS = """# Topics

Made from `schemas/topics/` by `make gen`. Every topic has `message.timestamp.type=LogAppendTime` and is kept for ever
unless said otherwise; event time stands in the header `ce_time` and in the body."""
_METRICS = """# Metrics

Made from `schemas/telemetry.yaml` by `make gen`. At `/metrics` of each service the dots and dashes become underscores,
and Prometheus adds the unit and `_total` to the name. Units are UCUM."""
EVERYBODY = 10
"""A topic with so many readers is not drawn but named below the picture."""


def marked(text: str, name: str, content: str) -> str:
    """The text with the part between the markers of `name` replaced. Raises ValueError where there are none."""
    start, end = START.format(name=name), END.format(name=name)
    if start not in text or end not in text:
        raise ValueError(f"the document needs the lines {start} and {end}")
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{content}\n{end}{rest.partition(end)[2]}"


def data_graph(sources: Sources) -> str:
    """The data plane of a loop: stages and edges as boxes, topics as pipes."""
    return _graph([topic for topic in _drawn(sources) if topic.plane == "data"], str)


def control_graph(sources: Sources) -> str:
    """The control plane: services as boxes, topics as pipes."""
    shared = [topic for topic in _drawn(sources) if topic.plane == "control"]
    return _graph(shared, lambda end: "cli" if end.startswith("cli.") else end.partition(".")[0])


def _drawn(sources: Sources) -> list[TopicTemplate]:
    shown = [topic for topic in sources.topics.values() if topic.per != "stage" and "each stage" not in topic.readers]
    return [topic for topic in shown if len(topic.readers) < EVERYBODY]


def _graph(topics: Sequence[TopicTemplate], box: Callable[[str], str]) -> str:
    lines = ["flowchart LR"]
    lines += [f'  {_id(topic.topic)}[("{_short(topic.topic)}")]' for topic in topics]
    for topic in topics:
        lines += [f"  {_id(end)}({end}) --> {_id(topic.topic)}" for end in _unique(map(box, topic.writers))]
        lines += [f"  {_id(topic.topic)} --> {_id(end)}({end})" for end in _unique(map(box, topic.readers))]
    return "\n".join(["```mermaid", *lines, "```"])


def _short(topic: str) -> str:
    return topic.removeprefix("{loop}.").replace("{", "‹").replace("}", "›")


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _id(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name).strip("_") + ("_t" if "." in name and "{" in name else "")


def topics_page(sources: Sources) -> str:
    """docs/topics.md."""
    rows = [_topic_row(topic) for topic in sources.topics.values()]
    shared = [row for row, topic in zip(rows, sources.topics.values(), strict=True) if topic.plane == "control"]
    own = [row for row, topic in zip(rows, sources.topics.values(), strict=True) if topic.plane == "data"]
    head = ["topic", "key", "value", "partitions", "cleanup", "written by", "read by", "what it carries"]
    stages = [_stage_row(stage) for stage in sources.stages.values()]
    parts = [_TOPICS, "## Of a loop", table(head, own), "## Shared by all loops", table(head, shared)]
    return (
        "\n\n".join([*parts, "## Stages", table(["stage", "consumer group", "tasks", "what it does"], stages)]) + "\n"
    )


def _stage_row(stage: StageSpec) -> list[str]:
    group = f"{stage.name}.{{loop}}" if stage.per == "loop" else stage.name
    return [f"`{stage.name}`", f"`{group}`", _count(stage.partitions), stage.does]


def _topic_row(topic: TopicTemplate) -> list[str]:
    value = f"[{topic.value}](../schemas/{topic.schema})" if topic.schema else topic.value
    ends = [", ".join(topic.writers), ", ".join(topic.readers)]
    name, partitions = f"`{topic.topic}`", _count(topic.partitions)
    return [name, topic.key, value, partitions, topic.cleanup, *ends, topic.description.strip()]


def _count(partitions: int | str) -> str:
    return {"loop": "the loop's", "stage": "the stage's"}.get(str(partitions), str(partitions))


def metrics_page(sources: Sources) -> str:
    """docs/metrics.md."""
    rows = [
        [f"`{m.name}`", m.kind, f"`{m.unit}`", ", ".join(f"`{name}`" for name in m.attributes), m.description]
        for m in sources.metrics.values()
    ]
    attributes = [[f"`{name}`", text] for name, text in sources.attributes.items()]
    counted = table(["metric", "kind", "unit", "attributes", "what it counts"], rows)
    return "\n\n".join([_METRICS, counted, "## Attributes", table(["attribute", "what it says"], attributes)]) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def pages(sources: Sources, architecture: str) -> Mapping[str, str]:
    """Every document by its path from the root."""
    drawn = marked(architecture, "data plane", data_graph(sources))
    return {
        "ARCHITECTURE.md": marked(drawn, "control plane", control_graph(sources)),
        "docs/topics.md": topics_page(sources),
        "docs/metrics.md": metrics_page(sources),
    }
