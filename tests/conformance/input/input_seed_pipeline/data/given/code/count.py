import pathlib
import sys

places = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
rows = sum(len(p.read_text().splitlines()) for p in pathlib.Path(places["--input"]).glob("*.csv"))
pathlib.Path(places["--output"], "rows").write_text(f"{rows}\n")
