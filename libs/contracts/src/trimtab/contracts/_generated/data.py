"""Generated from schemas/ by `python -m trimtab.contracts.generate`. Never edited."""

from collections.abc import Mapping, Sequence

import msgspec


class Grouped(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one group whose keys belong to one partition, as columns: one index a row. Numbers are packed little-endian."""

    group: str
    """digest of the group's definition"""
    keys: Sequence[str]
    """values of `by`, parted by U+001F"""
    at_ms: bytes
    """event times, int64"""
    numbers: bytes
    """float64, argument by argument: values that the group's aggregates take and hashes of those they count; NaN is null"""
    texts: Sequence[str | None]
    """argument by argument: values that are text"""


class Texts(msgspec.Struct, frozen=True, kw_only=True):
    """texts one after the other"""

    text: str
    """all of them"""
    lengths: bytes
    """characters of each, int32 little-endian; -1: null"""


class VersionClasses(msgspec.Struct, frozen=True, kw_only=True):
    """class names of a version"""

    version: int
    """model version"""
    classes: Sequence[str]
    """in the order of its probabilities"""


class Joinable(msgspec.Struct, frozen=True, kw_only=True):
    """Asks and label events of one partition of label.by values, slim. ask_*: one value an ask, label_*: one an event, in equal order. bytes are packed numbers, little-endian."""

    task: str
    """the task that wrote it"""
    partition: int
    """of the predictions topic, the same for all asks here"""
    width: int
    """scores a prediction: 1, or the number of classes"""
    ask_key: Texts
    """keys of predictions"""
    ask_by: Texts | None = None
    """values of label.by, parted by U+001F; null where they are the keys themselves"""
    ask_at_ms: bytes
    """int64: event times of the asks"""
    ask_offset: bytes
    """int64: offsets of the predictions"""
    ask_version: bytes
    """int32: model versions; 0 without a model"""
    ask_score: bytes
    """float64: width scores a prediction; NaN without a model"""
    shadow_ask: bytes
    """int32: index of the ask that a shadow's scores belong to, ascending"""
    shadow_version: bytes
    """int32: its version"""
    shadow_score: bytes
    """float64: width scores a shadow"""
    classes: Sequence[VersionClasses]
    """multiclass: the classes of each version here; else empty"""
    label_by: Texts
    """values of label.by, parted by U+001F"""
    label_at_ms: bytes
    """int64: event times of the label events"""
    label_id: bytes
    """int64: the first 8 bytes of the digest of the event's id: a correction has the same"""
    label_number: bytes
    """float64: arguments of the label's aggregates that are numbers, event by event; NaN: null"""
    label_text: Texts | None = None
    """arguments that are texts, event by event; null where there are none"""
    source_ms: bytes
    """int64: starts of buckets of the whole loop's label events, the same for all partitions"""
    source_count: bytes
    """int64: label events that this task saw in the bucket"""
    tip_at_ms: int | None = None
    """event time of the sampled record whose trace the header traceparent carries on"""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a prediction. Features stay with the prediction, at (prediction_partition, prediction_offset)."""

    key: str
    """the prediction's key"""
    prediction_partition: int
    """of the predictions topic"""
    prediction_offset: int
    """of the predictions topic"""
    at_ms: int
    """event time of the ask"""
    settled_at_ms: int
    """event time at which the label was known"""
    status: str
    """labelled or no_label"""
    label: float | None = None
    """binary: 0 or 1; regression: the value"""
    label_class: str | None = None
    """multiclass: the class"""
    revision: int
    """0, and one more with each correction"""
    version: int | None = None
    """model version that scored it"""
    score: float | None = None
    """as in the prediction"""
    suspect: bool
    """the stream's quality was violated meanwhile: not for training"""


class ShadowScore(msgspec.Struct, frozen=True, kw_only=True, rename={'class_': 'class'}):
    """what a shadow said"""

    version: int
    """model version"""
    model_digest: str
    """of its blob"""
    score: float | None = None
    """as above"""
    class_: str | None = None
    """as above"""
    probabilities: Sequence[float]
    """as above"""


class Prediction(msgspec.Struct, frozen=True, kw_only=True, rename={'class_': 'class'}):
    """A prediction with all that went into it. A loop's own schema puts its features' names into the two empty records."""

    key: str
    """the prediction's key"""
    at_ms: int
    """event time of the ask"""
    features: Mapping[str, float | str | None]
    """the vector"""
    ages_ms: Mapping[str, int | None]
    """age of each looked-up value at the time of the ask"""
    features_as_of_ms: int
    """event time that the predictor's task had reached when the vector was made, over HTTP the online store; at most the ask's"""
    features_digest: str
    """of the features' definition"""
    score: float | None = None
    """binary: P(true); regression: the value; multiclass: probability of `class`; null before the first model"""
    class_: str | None = None
    """multiclass: the likeliest class"""
    probabilities: Sequence[float]
    """multiclass: by class, in the model's order; else empty"""
    arm: str
    """champion, or none before the first model"""
    version: int | None = None
    """model version"""
    model_digest: str | None = None
    """of the served blob"""
    deployment: int | None = None
    """sequence of the deployment that scored it"""
    shadows: Sequence[ShadowScore]
    """scores of the shadows"""
    origin: str
    """stream or http"""
    declaration_version: int
    """version of the loop's declaration"""
    by: Sequence[str]
    """values of label.by in the ask"""


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """An event in quarantine."""

    event: str
    """name of the event in the declaration"""
    rule: str
    """the rule that it broke: schema, time, time_ahead, too_old, conflict, quality, ..."""
    reason: str
    """field, expected, got"""
    id: str | None = None
    """event id, where it could be read"""
    source_topic: str
    """where it came from"""
    source_partition: int
    """where it stands there"""
    source_offset: int
    """where it stands there"""
    original: bytes | None = None
    """as it came; null: see blob"""
    blob: str | None = None
    """sha256 of the original in the store, when over 256 kB"""
    wall_ms: int
    """wall clock at which it was rejected"""
    event_time_ms: int | None = None
    """its event time, where it could be read"""


class SeenDeployment(msgspec.Struct, frozen=True, kw_only=True):
    """a deployment that made predictions"""

    sequence: int
    """its sequence"""
    version: int
    """its champion's version"""
    digest: str
    """its champion's digest"""
    first_ms: int
    """event time of its earliest prediction here"""


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and exact sums by bucket of event time, model version, signal and bin. Rows with equal keys add, in any order."""

    task: str
    """the task that wrote it, as monitor.route.flights-0"""
    names: Sequence[str]
    """names of the signals in this batch"""
    rows: bytes
    """count (uint32), then seven columns: seen_ms (start of the bucket in which it became known), asked_ms (start of the bucket in which the prediction was asked), version (0 without a model), signal (index into names), bin, count (negative where a revision takes rows back), units (the sum: units x 2^(8 bin - 24)). A column is a byte (0, 1, 2, 3: uint8, uint16, uint32, int64), its minimum (int64), and its values less the minimum; int64 values as they are. All little-endian"""
    deployments: Sequence[SeenDeployment]
    """deployments that made predictions in this batch"""
    tip_at_ms: int | None = None
    """event time of the sampled record whose trace the header traceparent carries on"""


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """64 grains of one group and key: mergeable partial aggregates of the grains that are not empty. Numbers are packed little-endian; which columns there are follows from the group's definition."""

    group: str
    """digest of the group's definition"""
    key: str
    """values of `by`, parted by U+001F"""
    tile_ms: int
    """start of the tile"""
    grain_ms: int
    """length of a grain"""
    grains: bytes
    """which of the 64 grains are not empty, ascending, a byte each"""
    rows: bytes
    """partials, float64, grain by grain; the newest event time is the first column, NaN is null, a text is an index into texts"""
    texts: Sequence[str]
    """texts of first, last and latest"""
    set_sizes: bytes
    """count(DISTINCT x): for each such x, uint16 a grain, how many members its set has"""
    set_members: bytes
    """float64, hashes in [0, 1) of the different values, set by set, grain by grain, ascending"""

SCHEMA_OF: Mapping[type[msgspec.Struct], str] = {
    Grouped: "grouped",
    Joinable: "joinable",
    Outcome: "outcome",
    Prediction: "prediction",
    Rejected: "rejected",
    Signals: "signals",
    Tile: "tile",
}
