"""Works until it is asked to end, by whichever signal, and keeps what it has then."""

import signal
import sys
import time
from pathlib import Path


def end(number, frame):
    print("asked to end by", signal.Signals(number).name)
    Path("/opt/ml/processing/out/o/partial").write_text("half of it\n")
    sys.exit(0)


print("SIGINT is", "let be" if signal.getsignal(signal.SIGINT) is signal.default_int_handler else "ignored")
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
    signal.signal(number, end)
time.sleep(30)
