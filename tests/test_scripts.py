"""How to test a processing script alone: call its main() on directories, look at what it leaves there.

No pipeline, no container. What a script gets from SageMaker are paths, and here they are the test's own.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "data" / "sample"
DAY = "2013-01-01"


def load(name: str) -> ModuleType:
    """The script as a module, loaded from its path: `processing` is a directory of scripts, not a package."""
    spec = importlib.util.spec_from_file_location(f"processing_{name}", ROOT / "processing" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


validate, profile_day, fit, transform = map(load, ("validate", "profile_day", "fit", "transform"))


def run_validate(date: str, source: Path, out: Path) -> int:
    return validate.main(
        [
            *("--date", date, "--input", f"{source}"),
            *("--clean", f"{out}/clean", "--quality", f"{out}/quality", "--message", f"{out}/message"),
        ]
    )


def run_transform(source: Path, model: Path, out: Path) -> int:
    return transform.main(
        ["--input", f"{source}", "--model", f"{model}", "--train", f"{out}/train", "--test", f"{out}/test"]
    )


def rows_below(directory: Path) -> pd.DataFrame:
    """All rows of all Parquet files below, in an order of their own."""
    tables = [pd.read_parquet(path) for path in sorted(directory.rglob("*.parquet"))]
    return pd.concat(tables).sort_values(validate.IDENTITY, ignore_index=True)


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("validated")
    assert run_validate(DAY, SAMPLE, out) == 0
    return out


@pytest.fixture(scope="module")
def model(validated: Path) -> Path:
    assert fit.main(["--input", f"{validated}/clean", "--model", f"{validated}/model"]) == 0
    return validated / "model"


@pytest.fixture
def flights(tmp_path: Path) -> Path:
    """A copy of one day's files, to spoil. Validate reads it as its input."""
    shutil.copytree(SAMPLE / f"dt={DAY}", tmp_path / "flights" / f"dt={DAY}")
    return tmp_path / "flights"


def quality(out: Path) -> dict:
    return json.loads((out / "quality" / "quality.json").read_text())


# ------------------------------------------------------------------------------------------------ Validate
def test_validate_keeps_the_good_rows_of_one_day(validated: Path) -> None:
    report = quality(validated)
    assert (report["rows"], report["bad_rows"], report["bad_ratio"]) == (842, 11, 0.013064)
    assert report["faults"] == {"cancelled or diverted": 11}

    files = sorted(path.relative_to(validated / "clean").as_posix() for path in validated.rglob("*.csv"))
    assert files == [f"dt={DAY}/EWR.csv", f"dt={DAY}/JFK.csv", f"dt={DAY}/LGA.csv"]
    clean = pd.concat(pd.read_csv(path) for path in validated.rglob("*.csv"))
    assert len(clean) == 842 - 11
    assert list(clean["split"]).count("test") / len(clean) == pytest.approx(0.2, abs=0.05)


def test_validate_takes_the_date_of_a_timestamp(tmp_path: Path) -> None:
    assert run_validate("2013-01-02T06:00:00Z", SAMPLE, tmp_path) == 0
    assert quality(tmp_path)["date"] == "2013-01-02"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"carrier": "NA"}, "incomplete"),
        ({"distance": "far"}, "not a number"),
        ({"day": "2"}, "another day"),
        ({"arr_delay": ""}, "cancelled or diverted"),
        ({"distance": "-5"}, "out of range"),
        ({"dep_delay": "inf"}, "out of range"),
    ],
)
def test_validate_counts_a_bad_row(flights: Path, tmp_path: Path, change: dict[str, str], fault: str) -> None:
    path = flights / f"dt={DAY}" / "EWR.csv"
    rows = pd.read_csv(path, dtype=str).dropna().head(3)
    rows.loc[rows.index[1], list(change)] = list(change.values())
    rows.to_csv(path, index=False)
    assert run_validate(DAY, flights, tmp_path) == 0
    assert quality(tmp_path)["files"]["EWR.csv"] == {"rows": 3, "bad_rows": 1}
    assert fault in quality(tmp_path)["faults"]


def test_validate_counts_a_flight_that_comes_twice(flights: Path, tmp_path: Path) -> None:
    day = flights / f"dt={DAY}"
    shutil.copy(day / "EWR.csv", day / "EWR-again.csv")
    assert run_validate(DAY, flights, tmp_path) == 0
    assert quality(tmp_path)["faults"]["duplicate"] == 300
    assert quality(tmp_path)["bad_ratio"] == round((11 + 305) / (842 + 305), 6)


def test_validate_leaves_a_ratio_for_the_pipeline_to_refuse(flights: Path, tmp_path: Path) -> None:
    for path in flights.rglob("*.csv"):
        rows = pd.read_csv(path, dtype=str)
        rows.loc[rows.index[::2], "distance"] = "?"
        rows.to_csv(path, index=False)
    assert run_validate(DAY, flights, tmp_path) == 0
    assert quality(tmp_path)["bad_ratio"] > 0.5


HEADER = (SAMPLE / f"dt={DAY}" / "EWR.csv").read_text().splitlines()[0]
ROW = (SAMPLE / f"dt={DAY}" / "EWR.csv").read_text().splitlines()[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "dt=2013-01-01/EWR.csv is empty"),
        (b"this,is\nno,flight\n", "dt=2013-01-01/EWR.csv is malformed: it has no column"),
        (f"{HEADER}\n{ROW},more\n".encode(), "more fields than its header"),
        (f"{HEADER}\n{ROW}\n{ROW},more\n".encode(), "malformed: Expected 19 fields in line 3, saw 20"),
        (f'{HEADER}\n"{ROW}\n'.encode(), "malformed: EOF inside string"),
        (b"\x80\x81\x82", "malformed: 'utf-8' codec"),
    ],
)
def test_validate_refuses_a_file_that_is_no_csv_of_flights(
    flights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    (flights / f"dt={DAY}" / "EWR.csv").write_bytes(content)
    assert run_validate(DAY, flights, tmp_path) == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert (tmp_path / "message").read_text() == error


def test_validate_refuses_a_day_without_rows(flights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in flights.rglob("*.csv"):
        path.write_text(HEADER + "\n")
    assert run_validate(DAY, flights, tmp_path) == 1
    assert "not one row" in capsys.readouterr().err


@pytest.mark.parametrize(
    "date", ["", "yesterday", "2013-02-30", "20130101", "01.01.2013", "2013-01-01T", "2013-01-01T25:00:00Z"]
)
def test_validate_and_profile_refuse_what_is_no_day(
    date: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_validate(date, SAMPLE, tmp_path) == 1
    expected = f"ProcessingDate {date!r} is not a day"
    assert expected in capsys.readouterr().err
    with pytest.raises(SystemExit, match=re.escape(expected)):
        profile_day.main(["--date", date, "--input", f"{SAMPLE}", "--profile", f"{tmp_path}"])


def test_a_missing_day_ends_the_process_with_one_line_and_no_traceback(tmp_path: Path) -> None:
    # As a process of its own, the way the container starts it, and without /opt/ml to leave a message in.
    command = [sys.executable, ROOT / "processing" / "validate.py", "--date", "2013-06-01", "--input", SAMPLE]
    process = subprocess.run(
        [*command, "--message", tmp_path / "not there" / "message"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr == (
        "No data for 2013-06-01: there is no dt=2013-06-01/*.csv under InputData "
        "(it has 3 days, 2013-01-01 to 2013-01-03). Check ProcessingDate and InputData.\n"
    )


# ------------------------------------------------------------------------------------------------- Profile
def test_profile_describes_each_file(tmp_path: Path) -> None:
    assert profile_day.main(["--date", DAY, "--input", f"{SAMPLE}", "--profile", f"{tmp_path}"]) == 0
    ewr = json.loads((tmp_path / "profile.json").read_text())["files"]["EWR.csv"]
    assert ewr["rows"] == 305
    assert ewr["columns"]["arr_delay"]["missing"] == 5
    assert ewr["columns"]["hour"]["min"] == 5
    assert ewr["columns"]["origin"] == {"missing": 0, "distinct": 1, "most_common": {"EWR": 305}}


def test_profile_describes_what_validate_refuses(flights: Path, tmp_path: Path) -> None:
    (flights / f"dt={DAY}" / "EWR.csv").write_bytes(b"")
    (flights / f"dt={DAY}" / "JFK.csv").write_bytes(b"\xff\xfe")
    assert profile_day.main(["--date", DAY, "--input", f"{flights}", "--profile", f"{tmp_path}"]) == 0
    files = json.loads((tmp_path / "profile.json").read_text())["files"]
    assert [("error" in facts) for facts in files.values()] == [True, True, False]

    assert profile_day.main(["--date", "2013-06-01", "--input", f"{flights}", "--profile", f"{tmp_path}"]) == 0
    assert json.loads((tmp_path / "profile.json").read_text())["files"] == {}


# --------------------------------------------------------------------------------------- Fit and Transform
def test_transform_scales_and_encodes(validated: Path, model: Path, tmp_path: Path) -> None:
    assert run_transform(validated / "clean", model, tmp_path) == 0
    train, test = rows_below(tmp_path / "train"), rows_below(tmp_path / "test")
    assert len(train) + len(test) == 831
    # Fitted on the training rows: those, and only those, come out with mean 0 and deviation 1.
    assert train[["hour", "distance", "dep_delay"]].mean().abs().max() < 1e-9
    assert float(train["distance"].to_numpy().std()) == pytest.approx(1)
    assert (train.filter(like="carrier_").sum(axis=1) == 1).all()
    assert list(train.columns) == list(test.columns)


def test_fit_does_not_depend_on_the_size_of_its_chunks(validated: Path, model: Path) -> None:
    whole = fit.joblib.load(model / "model.joblib")
    small = load("fit")
    vars(small)["CHUNK_ROWS"] = 7
    chunked = small.fit(validated / "clean")
    assert chunked["scaler"].mean_ == pytest.approx(whole["scaler"].mean_)
    assert [list(names) for names in chunked["encoder"].categories_] == [
        list(names) for names in whole["encoder"].categories_
    ]


def test_the_rows_are_the_same_when_three_instances_share_the_files(
    validated: Path, model: Path, tmp_path: Path
) -> None:
    assert run_transform(validated / "clean", model, tmp_path / "one") == 0
    for number, path in enumerate(sorted((validated / "clean").rglob("*.csv"))):
        share = tmp_path / f"share-{number}" / path.parent.name
        share.mkdir(parents=True)
        shutil.copy(path, share)
        # All of them write to the same place, as all instances upload to the same prefix.
        assert run_transform(share.parent, model, tmp_path / "three") == 0
    for split in ("train", "test"):
        pd.testing.assert_frame_equal(rows_below(tmp_path / "one" / split), rows_below(tmp_path / "three" / split))


def test_an_instance_without_files_has_nothing_to_do(model: Path, tmp_path: Path) -> None:
    assert run_transform(tmp_path / "nothing", model, tmp_path) == 0
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_file_without_rows_becomes_files_of_the_same_types(validated: Path, model: Path, tmp_path: Path) -> None:
    source = tmp_path / "clean" / f"dt={DAY}"
    shutil.copytree(validated / "clean" / f"dt={DAY}", source)
    header = (source / "EWR.csv").read_text().splitlines()[0]
    (source / "EWR.csv").write_text(header + "\n")
    assert run_transform(tmp_path / "clean", model, tmp_path) == 0
    empty, full = (pd.read_parquet(tmp_path / "train" / f"dt={DAY}" / f"{name}.parquet") for name in ("EWR", "JFK"))
    assert empty.empty
    assert empty.dtypes.equals(full.dtypes)


def test_fit_says_when_there_is_nothing_to_fit_on(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="There is no training row"):
        fit.main(["--input", f"{tmp_path}", "--model", f"{tmp_path}/model"])


# --------------------------------------------------------------------------------------------------- split
def test_the_split_of_a_flight_never_changes() -> None:
    # Were these to change, rows that a model was trained on would turn up in its test set.
    assert validate.split_of("UA|1545|EWR|2013-01-01T10:00:00Z") == "train"
    assert validate.split_of("B6|507|EWR|2013-01-01T11:00:00Z") == "test"


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
flight_rows = st.lists(st.tuples(texts, texts, texts, texts), min_size=1, max_size=30, unique=True)


@given(rows=flight_rows, data=st.data())
def test_the_split_does_not_depend_on_order_or_grouping(rows: list[tuple[str, ...]], data: st.DataObject) -> None:
    def splits(part: list[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
        table = pd.DataFrame(part, columns=validate.IDENTITY, dtype=object)
        return dict(zip(part, validate.identities(table).map(validate.split_of), strict=True))

    together = splits(rows)
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    assert splits(shuffled[:cut]) | splits(shuffled[cut:]) == together
    assert set(together.values()) <= {"train", "test"}
