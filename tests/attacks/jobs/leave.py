"""Leaves all that a file system can hold in its output, and a message that is no file."""

import contextlib
import os
import socket
import sys

victim = sys.argv[1]
out = "/opt/ml/processing/out"
os.symlink(victim, "/opt/ml/output/message")
for name, mode in (("plain", 0o600), ("setuid", 0o4755), ("setgid", 0o2755), ("sticky", 0o1777), ("shut", 0)):
    with open(f"{out}/{name}", "w") as file:
        file.write(name)
    os.chmod(f"{out}/{name}", mode)
with contextlib.suppress(OSError):  # not on every file system
    os.setxattr(f"{out}/plain", "user.kept", b"1")
os.makedirs(f"{out}/shut-folder/inner")
with open(f"{out}/shut-folder/inner/file", "w") as file:
    file.write("inner")
os.chmod(f"{out}/shut-folder", 0o2000)
os.symlink(victim, f"{out}/link")
os.symlink(os.path.dirname(victim), f"{out}/way")
os.symlink("/", f"{out}/root")
os.link(f"{out}/plain", f"{out}/again")
os.mkfifo(f"{out}/pipe")
with contextlib.suppress(OSError):
    os.mknod(f"{out}/device", 0o60666, os.makedev(254, 0))
with contextlib.suppress(OSError):
    socket.socket(socket.AF_UNIX).bind(f"{out}/socket")
print("left")
