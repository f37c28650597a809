"""Tokens that make a write count once, however often it is sent. No I/O."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

_PROCESS = uuid.uuid4().hex


def client_token(request: Mapping[str, Any]) -> str:
    """The token of a request (API: ClientToken, at most 64 of A-Z, a-z, 0-9, '-' and '_').

    The same request gives the same token within one run of the program, so that sending it again after a timeout does
    nothing twice; another run has others, so that going back to an earlier request is not taken for a repetition.
    """
    text = json.dumps(request, sort_keys=True, default=str)
    return hashlib.sha256(f"{_PROCESS} {text}".encode()).hexdigest()
