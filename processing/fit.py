"""Step Fit: learn from the day's training rows how to scale numbers and encode categories.

Reads   <input>/dt=<day>/*.csv      what Validate kept
Writes  <model>/model.joblib        {"scaler", "encoder", "numeric", "categorical"}

Incremental: one chunk of rows is in memory at a time, whatever the size of the day. Rows marked `test` are
left out, so that nothing of the test set leaks into what the training rows are scaled with.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import joblib
import pandas as pd
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NUMERIC = ["hour", "distance", "dep_delay"]
CATEGORICAL = ["carrier", "origin"]
CHUNK_ROWS = 100_000


def training_rows(source: Path) -> Iterator[pd.DataFrame]:
    """The rows marked `train`, file by file in the order of their names, a chunk at a time."""
    columns = [*NUMERIC, *CATEGORICAL, "split"]
    texts = dict.fromkeys(CATEGORICAL, "string")
    for path in sorted(source.rglob("*.csv")):
        count = 0
        for rows in pd.read_csv(path, usecols=columns, dtype=texts, chunksize=CHUNK_ROWS):
            rows = rows[rows["split"] == "train"]
            count += len(rows)
            if len(rows):
                yield rows
        print(f"{path.relative_to(source)}: {count} training rows", flush=True)


def fit(source: Path) -> dict:
    """The fitted scaler and encoder, and the columns they are for."""
    scaler = StandardScaler()
    seen: list[set[str]] = [set() for _ in CATEGORICAL]
    for rows in training_rows(source):
        scaler.partial_fit(rows[NUMERIC].to_numpy())
        for values, name in zip(seen, CATEGORICAL, strict=True):
            values.update(rows[name])
    if not all(seen):
        sys.exit(f"There is no training row under {source}: Validate kept none. Look at its quality.json.")

    # OneHotEncoder has no partial_fit: the categories are collected above, and one row of them makes it
    # "fitted". A category that only the test rows have becomes all zeros.
    categories = [sorted(values) for values in seen]
    encoder = OneHotEncoder(categories=categories, handle_unknown="ignore", sparse_output=False, dtype="int8")
    encoder.fit([[values[0] for values in categories]])
    return {"scaler": scaler, "encoder": encoder, "numeric": NUMERIC, "categorical": CATEGORICAL}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fit the scaler and the encoder.")
    parser.add_argument("--input", type=Path, default="/opt/ml/processing/input/clean")
    parser.add_argument("--model", type=Path, default="/opt/ml/processing/output/model")
    args = parser.parse_args(argv)
    model = fit(args.input)
    args.model.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, args.model / "model.joblib")
    print(f"Fitted on {int(model['scaler'].n_samples_seen_)} rows", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
