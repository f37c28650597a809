"""Step Profile: describe the day's raw files, column by column.

Reads   <input>/dt=<day>/*.csv      the files as they came
Writes  <profile>/profile.json      per file its rows; per column what is missing, its range, its values

It describes and never judges: whether the day is good enough is Validate's to say, which runs at the same
time. A missing day is a profile without files, and a file that cannot be read is one with an `error`. That
way a bad day has one failure, with one reason, and a profile to look at.

(Not called profile.py: that would hide the module `profile` of Python's standard library.)
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import pandas as pd

MOST_COMMON = 5


def parse_day(text: str) -> date:
    """The date of `2013-01-01` or `2013-01-01T06:00:00Z`. As in validate.py: a step's code is one file."""
    try:
        if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T|$)", text):
            raise ValueError
        return datetime.fromisoformat(text).date()
    except ValueError:
        sys.exit(
            f"ProcessingDate {text!r} is not a day. Give a date (2013-01-01) or a timestamp (2013-01-01T06:00:00Z)."
        )


def profile_column(column: pd.Series) -> dict[str, object]:
    """What one column holds: numbers get their range, anything else its most common values."""
    present = column.dropna()
    facts: dict[str, object] = {"missing": len(column) - len(present), "distinct": int(present.nunique())}
    if present.empty:
        return facts
    if pd.api.types.is_numeric_dtype(present):
        return facts | {
            "min": float(present.min()),
            "median": float(present.median()),
            "mean": round(float(present.mean()), 3),
            "max": float(present.max()),
        }
    common = present.value_counts().head(MOST_COMMON)
    return facts | {"most_common": {str(value): int(count) for value, count in common.items()}}


def profile_file(path: Path) -> dict[str, object]:
    """What one file holds, or why it cannot be read."""
    try:
        rows = pd.read_csv(path)
    except ValueError as error:  # pandas' own errors and UnicodeDecodeError are ValueErrors
        return {"error": " ".join(str(error).split())}
    return {"rows": len(rows), "columns": {str(name): profile_column(rows[name]) for name in rows.columns}}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Describe one day's files.")
    parser.add_argument("--date", required=True, help="day to describe, or a timestamp on that day")
    parser.add_argument("--input", type=Path, default="/opt/ml/processing/input/flights")
    parser.add_argument("--profile", type=Path, default="/opt/ml/processing/output/profile")
    args = parser.parse_args(argv)

    day = parse_day(args.date)
    files: dict[str, dict[str, object]] = {}
    for path in sorted((args.input / f"dt={day}").glob("*.csv")):
        files[path.name] = profile_file(path)
        print(f"{path.parent.name}/{path.name}: {files[path.name].get('rows', 'unreadable')}", flush=True)

    args.profile.mkdir(parents=True, exist_ok=True)
    report = json.dumps({"date": str(day), "files": files}, indent=2, allow_nan=False)
    (args.profile / "profile.json").write_text(report + "\n", encoding="utf-8")
    print(f"{day}: profiled {len(files)} files", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
