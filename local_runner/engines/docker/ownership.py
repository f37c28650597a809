"""Files that containers made as root, given back to the user who runs this. Talks to the engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from local_runner.storage import job_tree


def own(client: Any, image: str, roots: Iterable[Path], labels: Mapping[str, str]) -> None:
    """Make everything below ``roots`` the calling user's (nothing to do for root). Raises what the engine raises.

    Only root may give files away, so a container of ``image`` does it; rootless engines and Docker Desktop need none.
    """
    user = os.getuid()
    directories = list(roots)
    if not user or all(job_tree.all_owned_by(root, user) for root in directories):
        return
    client.containers.run(
        image,
        entrypoint=["/bin/sh", "-c", f"chown -R {user}:{os.getgid()} /owned && chmod -R u+rwX /owned"],
        volumes={str(root): {"bind": f"/owned/{number}", "mode": "rw"} for number, root in enumerate(directories)},
        user="0",
        network_mode="none",
        remove=True,
        labels=dict(labels),
    )
