"""The first process of a hot worker's container: has the imports done, and forks a process for each job.

It listens on a Unix socket in the state directory. A caller sends one JSON line, for a job with two descriptors (what
the job prints goes there), and may then send a byte, the number of a signal for the job; a caller that is gone has its
job killed. The answer is one JSON line: {"exit": CODE, "out_of_memory": BOOL}, or {"cold": WHY} where the job did
not begin. The server ends itself when it has had nothing to do for a while, or when its socket is gone.

Runs on the image's Python (3.8 or newer), with its standard library only.
"""

import array
import gc
import glob
import importlib
import importlib.util
import json
import os
import selectors
import signal
import socket
import sys
import time

import job_tree
import namespaces
import script as scripts
import seccomp

OWN = "/.local-runner"
SCRATCH = OWN + "/scratch"
_LOOK_SECONDS = 2.0
_LONGEST = 1 << 20


class Job:
    """A job that runs: its process, its caller's connection, its scratch space, and where it says why it is not run."""

    def __init__(self, pid, connection, scratch, why, request):
        self.pid, self.connection, self.scratch, self.why, self.request = pid, connection, scratch, why, request
        self.killed_before = _killed_for_memory()


class Server:
    def __init__(self, directory, idle_seconds):
        self.path = directory + "/socket"
        self.idle_seconds = idle_seconds
        self.cwd = os.getcwd()
        os.mkdir(OWN + "/root")
        self.jobs = {}
        self.number = 0
        self.quitting = False
        self.pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.wakeup, writer = os.pipe()
        for descriptor in (self.wakeup, writer):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path + ".new")
        os.chmod(self.path + ".new", 0o666)
        self.listener.listen(16)
        os.rename(self.path + ".new", self.path)  # whoever finds it is answered
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.wakeup, selectors.EVENT_READ, None)
        self.selector.register(self.listener, selectors.EVENT_READ, None)

    def serve(self):
        last = time.monotonic()
        while True:
            for key, _ in self.selector.select(_LOOK_SECONDS):
                last = time.monotonic()
                if key.fileobj is self.listener:
                    self._accept()
                elif key.fd == self.wakeup:
                    os.read(self.wakeup, 4096)
                    self._reap()
                else:
                    self._obey(key.data)
            idle = time.monotonic() - last
            if not self.jobs and (self.quitting or idle > self.idle_seconds or not os.path.exists(self.path)):
                return

    # ------------------------------------------------------------------------------------------------- requests
    def _accept(self):
        connection, _ = self.listener.accept()
        connection.settimeout(10)
        descriptors = []
        try:
            request, descriptors = _receive(connection)
            if request.get("quit"):
                self.quitting = True
                _unlink(self.path)  # the next caller starts another worker
                for pid in self.jobs if request.get("now") else ():
                    _kill(pid, signal.SIGKILL)
            _preload(request.get("preload", ()))
            if "script" in request:
                self._start(connection, request, descriptors)
            else:
                _answer(connection, {"ready": True})
        except (OSError, ValueError, KeyError, EOFError) as error:
            _answer(connection, {"cold": "the hot worker failed: %s" % error})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _start(self, connection, request, outputs):
        gc.collect()
        gc.freeze()  # the collector of a job then leaves alone, and unshared, what it has from here
        self.number += 1
        scratch = "%s/%d" % (SCRATCH, self.number)
        os.mkdir(scratch)
        why, errors = os.pipe()
        namespaces.unshare(namespaces.NEW_PIDS)
        pid = os.fork()
        if pid == 0:
            try:
                code = self._become_job(request, outputs, scratch, errors)
            except BaseException:  # nothing of the job may come back into the server
                sys.excepthook(*sys.exc_info())
                code = 1
            os._exit(code)
        namespaces.rejoin_pids(self.pids)
        os.close(errors)
        self.jobs[pid] = Job(pid, connection, scratch, why, request)
        connection.setblocking(False)
        self.selector.register(connection, selectors.EVENT_READ, self.jobs[pid])

    def _obey(self, job):
        try:
            commands = job.connection.recv(16)
        except BlockingIOError:
            return
        except OSError:
            commands = b""
        if not commands:
            self.selector.unregister(job.connection)
        _kill(job.pid, commands[-1] if commands else signal.SIGKILL)

    def _reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self.jobs:
                self._ended(self.jobs.pop(pid), status)

    def _ended(self, job, status):
        with open(job.why, "rb") as file:
            why = file.read().decode("utf-8", "replace")
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        killed = bool(code) and _killed_for_memory() > job.killed_before
        owner = job.request.get("owner")
        if owner:
            for mount in job.request["mounts"]:
                if "source" in mount:
                    job_tree.give(mount["source"], *owner)
        try:
            self.selector.unregister(job.connection)
        except KeyError:
            pass  # its caller is gone
        _answer(job.connection, {"cold": why} if why else {"exit": code, "out_of_memory": killed})
        job_tree.remove(job.scratch)

    # ------------------------------------------------------------------------------------------ in the child
    def _become_job(self, request, outputs, scratch, errors):
        """From here on this process is the job's. Returns the exit code; why it cannot begin goes to ``errors``."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the engine's own is ignored
            os.setsid()
            namespaces.enter(scratch, request["mounts"], OWN)
            os.chdir(self.cwd)
            seccomp.install()
            namespaces.drop_privilege()
            own, given = scripts.search_path(request["script"])
            hidden = scripts.hidden_modules(own + given)
            if hidden:
                raise OSError("the script's directory has a %s of its own, which is loaded already" % hidden[0])
            self.selector.close()
            os.dup2(outputs[0], 1)
            os.dup2(outputs[1], 2)
            os.set_inheritable(1, True)
            os.set_inheritable(2, True)
        except Exception as error:
            os.write(errors, str(error).encode("utf-8", "replace")[:2000])
            return 1
        os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
        return scripts.run(request["program"], request["script"], request["arguments"], own)


def _receive(connection):
    """A caller's line and the descriptors that came with it. Raises EOFError, ValueError, OSError."""
    text, descriptors = b"", array.array("i")
    while not text.endswith(b"\n"):
        data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(2 * descriptors.itemsize))
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(content)
        text += data
        if not data or len(text) > _LONGEST:
            raise EOFError("the caller went away")
    return json.loads(text), list(descriptors)


def _answer(connection, answer):
    try:
        connection.setblocking(True)
        connection.sendall(json.dumps(answer).encode() + b"\n")
    except OSError:
        pass  # nobody waits for it any more
    connection.close()


def _preload(names):
    """Import what jobs import, where it is a package of the image's; what cannot be is the job's to meet."""
    for name in names:
        if name in sys.modules:
            continue
        try:
            if importlib.util.find_spec(name.partition(".")[0]) is not None:
                importlib.import_module(name)
        except BaseException:
            continue


def _kill(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _unlink(path):
    try:
        os.unlink(path)
    except OSError:
        pass


def _killed_for_memory():
    """How many processes of this container the kernel has killed for want of memory so far."""
    for path in glob.glob("/sys/fs/cgroup/memory/memory.oom_control") + glob.glob("/sys/fs/cgroup/memory.events"):
        with open(path) as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def main():
    directory, idle_seconds = sys.argv[1:]
    log = os.open(directory + "/log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for target, descriptor in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(descriptor, target)
    program = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path != program]
    sys.path_importer_cache.pop(program, None)
    for name in ("job_tree", "namespaces", "script", "seccomp"):
        del sys.modules[name]
    Server(directory, float(idle_seconds)).serve()


main()
