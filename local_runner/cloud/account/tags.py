"""The tags that say whose a resource is. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

PROJECT_TAG = "local-runner:project"
"""The tag that says which project a resource belongs to: what carries another, or none, is somebody else's."""

ENVIRONMENT_TAG = "local-runner:environment"


def is_ours(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a resource with these tags belongs to the project and environment of those."""
    return all(found.get(key) == wanted.get(key) for key in (PROJECT_TAG, ENVIRONMENT_TAG))


def tags_of(items: list[dict[str, str]]) -> dict[str, str]:
    """``[{Key, Value}]`` as a table."""
    return {item["Key"]: item["Value"] for item in items}
