"""Times as people write them, read column-wise."""

import polars as pl

from trimtab.loops.columns import TIME

_PATTERN = (
    r"^\s*(?P<date>\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{4})"
    r"(?:[T ](?P<clock>\d{1,2}:\d\d(?::\d\d)?)(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"\s*(?P<zone>[Zz]|[+-]\d\d:?\d\d|UTC)?\s*$"
)
_MINUTE_MS = 60_000


def to_utc(text: pl.Expr, zone: str | None = None) -> pl.Expr:
    """ISO 8601 dates and times (and month/day/year) as `Datetime("ms", "UTC")`; null for what is none.

    A time without an offset is taken in `zone`; with `zone` None it is null too, because it could be any instant.

    >>> texts = pl.DataFrame({"at": ["2024-05-31T12:00:00.25+02:00", "2024-05-31 12:00"]})
    >>> texts.select(at=to_utc(pl.col("at")).dt.epoch("ms"))["at"].to_list()
    [1717149600250, None]
    """
    parts = text.str.extract_groups(_PATTERN).struct
    date, offset = parts.field("date"), parts.field("zone").str.to_uppercase().str.replace("UTC", "Z", literal=True)
    day = pl.coalesce(date.str.to_date("%Y-%m-%d", strict=False), date.str.to_date("%m/%d/%Y", strict=False))
    local = day.cast(pl.Datetime("ms")) + pl.duration(milliseconds=_clock_ms(parts.field("clock")))
    local = local + pl.duration(milliseconds=_fraction_ms(parts.field("fraction")))
    exact = local.dt.replace_time_zone("UTC") - pl.duration(milliseconds=_offset_ms(offset))
    if zone is None:
        return pl.when(offset.is_not_null()).then(exact)
    named = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
    return pl.when(offset.is_not_null()).then(exact).otherwise(named).cast(TIME)


def has_offset(text: pl.Expr) -> pl.Expr:
    """Whether a text is a time with its offset from UTC.

    >>> pl.DataFrame({"at": ["2024-05-31T12:00:00Z", "2024-05-31"]}).select(at=has_offset(pl.col("at")))["at"].to_list()
    [True, False]
    """
    return to_utc(text).is_not_null()


def rfc3339(time: pl.Expr) -> pl.Expr:
    """`Datetime("ms", "UTC")` as text with milliseconds and Z.

    >>> at = pl.Series("at", [1_717_149_600_250]).cast(pl.Datetime("ms", "UTC"))
    >>> pl.select(rfc3339(pl.lit(at))).item()
    '2024-05-31T10:00:00.250Z'
    """
    return time.dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")


def _clock_ms(clock: pl.Expr) -> pl.Expr:
    parts = clock.str.split(":").list
    hours, minutes, seconds = (parts.get(n, null_on_oob=True).cast(pl.Int64, strict=False) for n in range(3))
    in_day = (hours < 24) & (minutes < 60) & (seconds.fill_null(0) < 61)
    whole = ((hours * 60 + minutes) * 60 + seconds.fill_null(0)) * 1000
    return pl.when(clock.is_null()).then(0).when(in_day).then(whole)


def _fraction_ms(fraction: pl.Expr) -> pl.Expr:
    return (fraction + "000").str.slice(0, 3).cast(pl.Int64, strict=False).fill_null(0)


def _offset_ms(offset: pl.Expr) -> pl.Expr:
    digits = offset.str.replace_all(":", "", literal=True)
    ahead = digits.str.slice(1, 2).cast(pl.Int64, strict=False) * 60 + digits.str.slice(3, 2).cast(
        pl.Int64, strict=False
    )
    sign = pl.when(digits.str.starts_with("-")).then(-1).otherwise(1)
    return (ahead * sign * _MINUTE_MS).fill_null(0)
