import pathlib
import socket

try:
    socket.create_connection(("192.0.2.1", 80), 2)
    found = "connected"
except OSError:
    routes = pathlib.Path("/proc/net/route").read_text().splitlines()[1:]
    found = "a way out" if any(route.split()[1] == "00000000" for route in routes) else "no way out"
pathlib.Path("/opt/ml/processing/out/o/f").write_text(found)
