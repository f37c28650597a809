"""Which steps write what lies at a URI, against the plain reading of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from local_runner.planning.writers import Writers

URIS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map(lambda parts: f"s3://{'/'.join(parts)}")
PLACES = st.lists(st.tuples(URIS, st.sampled_from(["", "/"])).map("".join), max_size=6)


@given(PLACES, URIS, st.sampled_from(["", "/"]), st.booleans())
def test_a_step_writes_what_lies_below_its_place_or_what_its_place_lies_below(
    places: list[str], uri: str, end: str, early: bool
) -> None:
    writers = Writers()
    for number, place in enumerate(places):
        if early:
            writers.of(uri)  # asked before all are known
        writers.add(f"S{number}", [place])
    asked = f"{uri}{end}"
    under = [f"{place.rstrip('/')}/" for place in places]
    assert writers.of(asked) == [
        f"S{number}" for number, place in enumerate(under) if place.startswith(asked) or asked.startswith(place)
    ]
