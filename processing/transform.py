"""Step Transform: scale and encode the day's rows into train and test sets.

Reads   <input>/dt=<day>/<file>.csv         what Validate kept (or this instance's share of it)
        <model>/model.joblib                what Fit learned
Writes  <train>/dt=<day>/<file>.parquet     one file for each input file, even if no row falls in it:
        <test>/dt=<day>/<file>.parquet      running the same day again overwrites the same keys

Nothing passes from one file to the next, so the rows are the same however the files are shared out.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

# Carried through unchanged: which flight it is, and what a model is to predict.
IDENTITY = ["carrier", "flight", "origin", "dest", "time_hour"]
TARGET = "arr_delay"


def transform(rows: pd.DataFrame, model: dict) -> pd.DataFrame:
    """Identity, scaled numbers, one column per category, target. One row for each row of the input."""
    numeric, categorical = model["numeric"], model["categorical"]
    names = list(model["encoder"].get_feature_names_out(categorical))
    scaled, encoded = rows[numeric].to_numpy(), np.empty((0, len(names)), "int8")
    if len(rows):  # scikit-learn takes no empty table
        scaled = model["scaler"].transform(scaled)
        encoded = model["encoder"].transform(rows[categorical].to_numpy(dtype=object))
    parts = [
        rows[IDENTITY],
        pd.DataFrame(scaled, columns=numeric, index=rows.index),
        pd.DataFrame(encoded, columns=names, index=rows.index),
        rows[TARGET],
    ]
    return pd.concat(parts, axis=1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Scale and encode rows into train and test sets.")
    parser.add_argument("--input", type=Path, default="/opt/ml/processing/input/clean")
    parser.add_argument("--model", type=Path, default="/opt/ml/processing/input/model")
    parser.add_argument("--train", type=Path, default="/opt/ml/processing/output/train")
    parser.add_argument("--test", type=Path, default="/opt/ml/processing/output/test")
    args = parser.parse_args(argv)

    model = joblib.load(args.model / "model.joblib")
    # Given, not guessed: the types must not depend on which rows a file happens to have.
    types = dict.fromkeys(IDENTITY, "string") | dict.fromkeys([*model["numeric"], TARGET], "float64")
    files = sorted(args.input.rglob("*.csv"))
    if not files:  # more instances than files: nothing to do here, and no fault
        print("No file for this instance", flush=True)
    for path in files:
        name = path.relative_to(args.input).with_suffix(".parquet")
        rows = pd.read_csv(path, dtype=types)
        for split, target in (("train", args.train), ("test", args.test)):
            part = transform(rows[rows["split"] == split], model)
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            part.to_parquet(target / name, index=False)
            print(f"{split}/{name}: {len(part)} rows", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
