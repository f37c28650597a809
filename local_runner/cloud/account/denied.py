"""What a denial says: the action that was denied, which is not always the call's own. No I/O.

Source: IAM user guide, "Troubleshooting access denied error messages".
"""

from __future__ import annotations

import re

_DENIAL = re.compile(
    r"not authorized to perform:?\s+(?P<action>[A-Za-z0-9-]+:\w+)(?:\s+on\s+resource:\s+(?P<resource>\S+))?"
)


def denied_action(message: str, permission: str) -> str:
    """The permission to ask for: what the message of a denial names, with its resource, else that of the call."""
    denial = _DENIAL.search(message)
    if denial is None:
        return permission
    resource = (denial["resource"] or "*").rstrip(".,")
    return denial["action"] if resource == "*" else f"{denial['action']} on {resource}"
