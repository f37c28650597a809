"""Makes folders in each place that it can write to: deeper than a path can name (PATH_MAX), or Python recurse."""

import os
import sys

for top in sys.argv[1:]:
    folder = os.open(top, os.O_RDONLY)
    for _ in range(1100):
        try:
            os.mkdir("deep", dir_fd=folder)
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        except OSError:  # some overlays in user space go no deeper than a path
            break
        inner = os.open("deep", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    print("made", top)
