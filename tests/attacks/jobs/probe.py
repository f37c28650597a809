"""Tries each attack of docs/SECURITY.md, and prints a line of JSON: its name, and whether it was refused.

What the host has that a job must not reach is named by the arguments: a file of the host, one of the project, one of
the state directory, the SHA-256 of its /etc/shadow, a process, the name of an abstract socket that somebody listens on,
a TCP port of the host's loopback.
"""

import ctypes
import glob
import hashlib
import json
import os
import signal
import socket
import sys

host_file, project_file, state_file, shadow, process, abstract, port = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
attacks = {}


def attack(function):
    attacks[function.__name__] = function
    return function


def called(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@attack
def read_host_file():
    open(host_file).close()


@attack
def write_host_file():
    open(host_file, "r+").close()


@attack
def read_project():
    open(project_file).close()


@attack
def read_state():
    open(state_file).close()


@attack
def read_shadow():
    with open("/etc/shadow", "rb") as file:
        if hashlib.sha256(file.read()).hexdigest() != shadow:
            raise FileNotFoundError("it is the image's own")


@attack
def read_docker_socket():
    for path in ("/var/run/docker.sock", "/run/docker.sock"):
        if os.path.exists(path):
            socket.socket(socket.AF_UNIX).connect(path)
            return
    raise FileNotFoundError(path)


@attack
def change_system():
    with open("/usr/bin/local-runner-attack", "w"):
        pass


@attack
def signal_host_process():
    with open(f"/proc/{process}/cmdline", "rb") as file:
        if b"attack-victim" not in file.read():
            raise ProcessLookupError("another process has that number here")
    os.kill(int(process), signal.SIGTERM)


@attack
def see_host_processes():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with open(path, "rb") as file:
            if b"attack-victim" in file.read().split(b"\0"):
                return
    raise ProcessLookupError


@attack
def mount():
    os.makedirs("/tmp/here", exist_ok=True)
    called(libc.mount(b"none", b"/tmp/here", b"tmpfs", 0, None))


@attack
def new_user_namespace():
    called(libc.unshare(0x10000000))


@attack
def open_host_disk():
    for number in range(0, 260):
        path = f"/tmp/disk-{number}"
        try:
            os.mknod(path, 0o60666, os.makedev(number, 0))
        except FileExistsError:
            pass
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            return
        except OSError as error:
            last = error
        finally:
            os.unlink(path)
    raise last


@attack
def change_kernel_settings():
    with open("/proc/sys/kernel/core_pattern", "r+"):
        pass


@attack
def read_kernel_memory():
    with open("/proc/kcore", "rb") as file:
        if not file.read(1):
            raise OSError("empty")


@attack
def see_credentials():
    if not any(name.startswith("AWS_") for name in os.environ) and not glob.glob(os.path.expanduser("~/.aws/*")):
        raise KeyError("none")


@attack
def reach_abstract_socket():
    socket.socket(socket.AF_UNIX).connect("\0" + abstract)


@attack
def reach_loopback_of_host():
    socket.create_connection(("127.0.0.1", int(port)), timeout=2).close()


for name, function in attacks.items():
    if os.fork() == 0:  # one that changes the process changes no other
        try:
            function()
            print(json.dumps({"attack": name, "end": "possible"}), flush=True)
        except BaseException as error:
            print(json.dumps({"attack": name, "end": "refused", "by": f"{type(error).__name__}: {error}"}), flush=True)
        os._exit(0)
    os.wait()
