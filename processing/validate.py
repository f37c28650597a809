"""Step Validate: check one day's files and keep the good rows.

Reads   <input>/dt=<day>/*.csv          every day that lies under InputData; only the one asked for is opened
Writes  <clean>/dt=<day>/<file>.csv     the good rows, the columns that later steps use, and `split`
        <quality>/quality.json          what was found; the pipeline's condition reads it

A day that is missing or empty, or a file that is no CSV of flights, ends the job with one line on stderr
and in the job's ExitMessage. Single bad rows do not: they are counted, and the pipeline says how many are too
many.
"""

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path

import pandas as pd

# What makes a flight that flight. Text, as it stands in the file.
IDENTITY = ["carrier", "flight", "origin", "time_hour"]
KEEP = [*IDENTITY, "dest", "hour", "distance", "dep_delay", "arr_delay"]
REQUIRED = [*KEEP, "year", "month", "day"]

# Smallest and largest value that is believed: hours, miles, minutes, minutes.
LIMITS = {"hour": (0, 24), "distance": (1, 12_000), "dep_delay": (-1440, 2880), "arr_delay": (-1440, 2880)}

TEST_PERCENT = 20
CHUNK_ROWS = 100_000


class UnusableInputError(Exception):
    """The day cannot be processed at all. The message is for the person who gets the alarm."""


def parse_day(text: str) -> date:
    """The date of `2013-01-01` or of a timestamp such as `2013-01-01T06:00:00Z`, as a schedule sends it."""
    try:
        if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T|$)", text):
            raise ValueError
        return datetime.fromisoformat(text).date()
    except ValueError:
        raise UnusableInputError(
            f"ProcessingDate {text!r} is not a day. Give a date (2013-01-01) or a timestamp (2013-01-01T06:00:00Z)."
        ) from None


def find_files(root: Path, day: date) -> list[Path]:
    """The CSV files of that day, sorted by name."""
    files = sorted((root / f"dt={day}").glob("*.csv"))
    if not files:
        days = sorted(path.name.removeprefix("dt=") for path in root.glob("dt=*"))
        there = f"it has {len(days)} days, {days[0]} to {days[-1]}" if days else "it has no dt=<day> at all"
        raise UnusableInputError(
            f"No data for {day}: there is no dt={day}/*.csv under InputData ({there}). "
            "Check ProcessingDate and InputData."
        )
    return files


def read_chunks(path: Path) -> Iterator[pd.DataFrame]:
    """The file as text, some rows at a time, so that memory does not grow with the file."""
    name = f"{path.parent.name}/{path.name}"
    try:
        for chunk in pd.read_csv(path, dtype=str, chunksize=CHUNK_ROWS):
            missing = [column for column in REQUIRED if column not in chunk.columns]
            if missing:
                raise UnusableInputError(f"{name} is malformed: it has no column {', '.join(missing)}.")
            # pandas takes the surplus fields of a first row for an index, and says nothing.
            if not isinstance(chunk.index, pd.RangeIndex):
                raise UnusableInputError(f"{name} is malformed: its rows have more fields than its header.")
            yield chunk
    except pd.errors.EmptyDataError:
        raise UnusableInputError(f"{name} is empty: not even a header. Was its upload cut off?") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise UnusableInputError(f"{name} is malformed: {reason}") from None


def identities(rows: pd.DataFrame) -> pd.Series:
    """One text per row that says which flight it is."""
    texts = ["|".join(map(str, row)) for row in rows[IDENTITY].itertuples(index=False)]
    return pd.Series(texts, index=rows.index, dtype=object)


def split_of(identity: str) -> str:
    """`train` or `test`: by the flight alone, so it is the same in every run, on every machine, in any file.

    (Python's own hash() differs from process to process, and a random split from run to run.)
    """
    number = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big")
    return "test" if number % 100 < TEST_PERCENT else "train"


def find_faults(rows: pd.DataFrame, day: date, seen: set[str]) -> pd.Series:
    """Per row the first thing that is wrong with it, or "". Adds the flights to `seen`, the day's so far."""
    texts = rows[[*LIMITS, "year", "month", "day"]]
    numbers = texts.apply(pd.to_numeric, errors="coerce")
    believable = pd.DataFrame({name: numbers[name].between(*limits) for name, limits in LIMITS.items()})
    key = identities(rows)
    faults = {
        "incomplete": rows[KEEP].drop(columns=["dep_delay", "arr_delay"]).isna().any(axis=1),
        "not a number": (numbers.isna() & texts.notna()).any(axis=1),
        "another day": (numbers[["year", "month", "day"]] != [day.year, day.month, day.day]).any(axis=1),
        "cancelled or diverted": numbers[["dep_delay", "arr_delay"]].isna().any(axis=1),
        "out of range": ~believable.all(axis=1),
        "duplicate": key.duplicated() | key.isin(seen),
    }
    seen.update(key)

    first = pd.Series("", index=rows.index, dtype=object)
    for name, found in faults.items():
        first[found & (first == "")] = name
    return first


def clean_file(source: Path, target: Path, day: date, seen: set[str]) -> Counter[str]:
    """Write the good rows of one file. Returns rows by fault; "" counts the good ones."""
    counts: Counter[str] = Counter()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as sink:
        for number, rows in enumerate(read_chunks(source)):
            faults = find_faults(rows, day, seen)
            counts.update(faults)
            good = rows.loc[faults == "", KEEP]
            # Split here, once: Fit must see the train rows only, and Transform must agree with it.
            good = good.assign(split=identities(good).map(split_of))
            good.to_csv(sink, index=False, header=number == 0, lineterminator="\n")
    return counts


def validate(day: date, source: Path, clean: Path, quality: Path) -> str:
    """Check the day, write both outputs, return a summary in one line."""
    seen: set[str] = set()
    files: dict[str, dict[str, int]] = {}
    total: Counter[str] = Counter()
    for path in find_files(source, day):
        counts = clean_file(path, clean / path.parent.name / path.name, day, seen)
        rows, bad = counts.total(), counts.total() - counts[""]
        files[path.name] = {"rows": rows, "bad_rows": bad}
        total.update(counts)
        print(f"{path.parent.name}/{path.name}: {rows} rows, {bad} bad", flush=True)

    rows, bad = total.total(), total.total() - total[""]
    if not rows:
        raise UnusableInputError(f"No data for {day}: its files have headers but not one row.")
    report = {
        "date": str(day),
        "rows": rows,
        "bad_rows": bad,
        "bad_ratio": round(bad / rows, 6),
        "faults": {name: count for name, count in sorted(total.items()) if name},
        "files": files,
    }
    quality.mkdir(parents=True, exist_ok=True)
    (quality / "quality.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return f"{day}: {rows} rows in {len(files)} files, {bad} bad ({bad / rows:.2%})"


def leave_message(path: Path, text: str) -> None:
    """What SageMaker shows as the job's ExitMessage: the first 1 KB of this file, which must be UTF-8."""
    if path.parent.is_dir():  # it is not where the script is run by hand
        path.write_bytes(text.encode()[:1024].decode(errors="ignore").encode())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check one day's files and keep the good rows.")
    parser.add_argument("--date", required=True, help="day to process, or a timestamp on that day")
    parser.add_argument("--input", type=Path, default="/opt/ml/processing/input/flights")
    parser.add_argument("--clean", type=Path, default="/opt/ml/processing/output/clean")
    parser.add_argument("--quality", type=Path, default="/opt/ml/processing/output/quality")
    parser.add_argument("--message", type=Path, default="/opt/ml/output/message")
    args = parser.parse_args(argv)
    try:
        summary = validate(parse_day(args.date), args.input, args.clean, args.quality)
    except (UnusableInputError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        leave_message(args.message, str(error))
        return 1
    print(summary, flush=True)
    leave_message(args.message, summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
