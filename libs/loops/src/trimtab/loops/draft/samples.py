"""A sample file with its columns typed: what a person would see at a glance."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from trimtab.loops.columns import TIME
from trimtab.loops.errors import DraftError
from trimtab.loops.timetext import has_offset, to_utc

Kind = Literal["time", "integer", "number", "boolean", "text"]

ENDINGS = (".csv", ".jsonl", ".ndjson", ".parquet")
NULLS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "\\N", "?")
SEPARATORS = (",", ";", "\t", "|")
_WORDS = ("true", "false", "yes", "no", "t", "f", "y", "n")
_TRUE = ("true", "yes", "t", "y")
_TIME_NAME = re.compile(r"(^|_)(at|time|timestamp|ts|date|datetime|when|on|day)($|_)", re.IGNORECASE)
_SECONDS = (10**8, 10**10)
_MILLISECONDS = (10**11, 10**13)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a sample. `source`: its name in the file, where that is no name of a field."""

    name: str
    source: str
    kind: Kind
    nulls: int
    distinct: int
    example: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A file as typed columns, its rows in the file's order. `notes`: what was guessed about it, (what, why)."""

    file: Path
    rows: pl.DataFrame
    columns: Mapping[str, Column]
    notes: Sequence[tuple[str, str]]

    def named(self, *kinds: Kind) -> list[str]:
        """The names of the columns of some kinds."""
        return [name for name, column in self.columns.items() if column.kind in kinds]

    def unique(self, name: str) -> bool:
        """Whether every row has a value of its own."""
        return self.columns[name].distinct == self.rows.height and not self.columns[name].nulls


def read(file: Path, zone: str) -> Sample:
    """Reads a CSV, JSON lines or Parquet file. Times without an offset are taken in `zone`. Raises DraftError."""
    raw = _read(file)
    if not raw.height or not raw.width:
        raise DraftError(f"{file} has no rows", "a file with a header and rows")
    names = _field_names(raw.columns)
    typed = {names[name]: _typed(raw[name], zone) for name in raw.columns}
    kept = {name: found for name, found in typed.items() if found is not None}
    rows = pl.DataFrame([series.alias(name) for name, (series, _) in kept.items()])
    columns = {
        names[source]: Column(
            name=names[source],
            source=source,
            kind=kept[names[source]][1],
            nulls=rows[names[source]].null_count(),
            distinct=rows[names[source]].drop_nulls().n_unique(),
            example=_example(raw[source]),
        )
        for source in raw.columns
        if names[source] in kept
    }
    return Sample(file, rows, columns, list(_notes(raw, names, kept, zone)))


def _read(file: Path) -> pl.DataFrame:
    if file.suffix not in ENDINGS:
        raise DraftError(f"{file} is no known kind of file", f"a file ending in {', '.join(ENDINGS)}")
    if not file.is_file():
        raise DraftError(f"there is no file {file}", "the path of a sample")
    try:
        if file.suffix == ".parquet":
            return pl.read_parquet(file)
        if file.suffix == ".csv":
            return pl.read_csv(file, infer_schema=False, separator=_separator(file), null_values=list(NULLS))
        return pl.read_ndjson(file, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise DraftError(f"{file} cannot be read: {error}", "CSV with a header, JSON lines, or Parquet") from error


def _separator(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace") as lines:
        header = lines.readline()
    return max(SEPARATORS, key=header.count)


def _field_names(columns: Sequence[str]) -> dict[str, str]:
    """File's name → name of a field: letters, digits, _; the same where it is one already."""
    found: dict[str, str] = {}
    for number, source in enumerate(columns):
        name = re.sub(r"\W+", "_", source, flags=re.ASCII).strip("_") or f"column_{number + 1}"
        name = f"_{name}" if name[0].isdigit() else name
        found[source] = name if name not in found.values() else f"{name}_{number + 1}"
    return found


def _typed(values: pl.Series, zone: str) -> tuple[pl.Series, Kind] | None:
    """The values with their kind; None for what is not scalar."""
    dtype = values.dtype
    if dtype == pl.String or dtype == pl.Categorical or isinstance(dtype, pl.Enum):
        return _from_text(values.cast(pl.String), zone)
    if dtype == pl.Boolean:
        return values, "boolean"
    if dtype.is_integer():
        return _from_integer(values)
    if dtype.is_numeric():
        return _whole(values.cast(pl.Float64))
    if isinstance(dtype, pl.Datetime):
        named = (
            values if dtype.time_zone else values.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        )
        return named.dt.convert_time_zone("UTC").cast(TIME), "time"
    return (values.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"), "time") if dtype == pl.Date else None


def _from_text(texts: pl.Series, zone: str) -> tuple[pl.Series, Kind]:
    texts = pl.select(pl.when(~texts.is_in(NULLS)).then(texts)).to_series()
    size = texts.len() - texts.null_count()
    if not size:
        return texts, "text"
    words = texts.str.to_lowercase()
    if words.drop_nulls().is_in(_WORDS).all():
        return pl.select(pl.when(words.is_not_null()).then(words.is_in(_TRUE))).to_series(), "boolean"
    integers = texts.cast(pl.Int64, strict=False)
    if integers.count() == size and not _coded(texts):
        return _from_integer(integers)
    numbers = texts.cast(pl.Float64, strict=False)
    if numbers.count() == size and not _coded(texts):
        return _whole(numbers.fill_nan(None))
    times = pl.select(to_utc(pl.lit(texts), zone)).to_series()
    return (times, "time") if times.count() == size else (texts, "text")


def _coded(texts: pl.Series) -> bool:
    """Whether digits are a code and no number: 007, 00501."""
    return bool(texts.drop_nulls().str.contains(r"^0\d").any())


def _from_integer(values: pl.Series) -> tuple[pl.Series, Kind]:
    integers = values.cast(pl.Int64)
    low, high = integers.min(), integers.max()
    for (least, most), unit in ((_SECONDS, 1000), (_MILLISECONDS, 1)):
        named = _TIME_NAME.search(values.name) is not None
        if named and isinstance(low, int) and isinstance(high, int) and least <= low <= high < most:
            return (integers * unit).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"), "time"
    return integers, "integer"


def _whole(numbers: pl.Series) -> tuple[pl.Series, Kind]:
    """Numbers that are whole because of nulls beside them are integers."""
    present = numbers.drop_nulls().drop_nans()
    if present.len() and (present % 1 == 0).all() and abs(float(present.abs().max() or 0)) < 2**53:  # type: ignore[arg-type]
        return _from_integer(numbers.fill_nan(None).cast(pl.Int64))
    return numbers.fill_nan(None), "number"


def _example(values: pl.Series) -> str:
    present = values.drop_nulls()
    return str(present[0])[:40] if present.len() else ""


def _notes(
    raw: pl.DataFrame, names: Mapping[str, str], kept: Mapping[str, object], zone: str
) -> Iterator[tuple[str, str]]:
    for source in raw.columns:
        if names[source] != source:
            yield f"field {names[source]}", f"`{source}` is no name of a field"
        if names[source] not in kept:
            yield f"left out `{source}`", f"{raw[source].dtype} is nested"
    for source in raw.columns:
        values = raw[source]
        naive = isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is None
        found = kept.get(names[source])
        if values.dtype == pl.String and isinstance(found, tuple) and found[1] == "time":
            naive = not pl.select(has_offset(pl.lit(values.drop_nulls()))).to_series().all()
        if naive:
            yield f"`{names[source]}` is in {zone}", "its times carry no offset; --zone names another"
