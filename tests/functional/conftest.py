"""A state directory for each test: fresh data and runs, and what takes long to make shared with the project's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.project import link_caches


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory of the test's own."""
    return link_caches(tmp_path / "state")


@pytest.fixture(
    params=[pytest.param("docker", marks=pytest.mark.docker), pytest.param("sandbox", marks=pytest.mark.sandbox)]
)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn, ready to run the project's image."""
    request.getfixturevalue("processing_image" if request.param == "docker" else "environment")
    return str(request.param)
