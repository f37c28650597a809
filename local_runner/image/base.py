"""The base of the processing image, in the engine. Pulls it, or builds it from Debian packages.

What was found or built is remembered by the engine alone: an image that is there is not asked for again.
"""

from __future__ import annotations

import hashlib
import os
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from local_runner.docker_host.connection import docker
from local_runner.errors import EngineError

FIRST_ANSWER_SECONDS = 20.0
"""How long a pull may take to say anything; after that it may fall silent for ``_SILENCE_SECONDS``."""

_SILENCE_SECONDS = 120.0

# Debian bookworm has Python 3.11, so it can stand in for the python:3.11 images and for nothing else.
_REPLACEABLE = re.compile(r"^(docker\.io/)?(library/)?python:3\.11(\.\d+)?(-slim)?(-bookworm)?$")
_SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates"
_HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")
_RECIPE = (
    "--variant=minbase",
    "--format=tar",
    f"--include={_PACKAGES}",
    "--dpkgopt=force-unsafe-io",
    # Not by dpkg's path-exclude: mmdebstrap then filters each package in Python, which takes 12 s more.
    """--customize-hook=cd "$1/usr/share" && rm -rf doc/* man/* info/* locale/* lintian/*""",
    # Proxies and mirrors of this machine may hold passwords: they stay out of the image.
    '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
    """--customize-hook=find "$1/etc/apt" -name '*.list' -exec sed -i '/@/d' {} +""",
    '--customize-hook=rm -rf "$1"/var/log/* "$1"/var/cache/debconf/*-old "$1"/var/cache/ldconfig',
)
_IMPORT_CHANGES = ["ENV LANG=C.UTF-8", 'CMD ["python3"]']

DEBIAN_BASE = (
    f"local-runner/base:{_SUITE}-python3.11-"
    + hashlib.sha256("\0".join([*_RECIPE, *_IMPORT_CHANGES]).encode()).hexdigest()[:8]
)


class _PullError(Exception):
    """No image came; the message is the engine's or the registry's reason."""


def ensure_base_image(client: Any, reference: str, progress: Callable[[str], None]) -> str:
    """The reference to build on: ``reference`` itself, or our Debian image where no registry provides it.

    ``client`` is what ``connect()`` gave. Raises EngineError where neither can be had, with what to do.
    """
    found = base_image_here(client, reference)
    if found:
        return found
    progress(f"Pulling the base image {reference}.")
    try:
        _pull(client, reference)
        return reference
    except _PullError as failure:
        if not is_replaceable(reference):
            raise EngineError(
                f"The base image {reference} cannot be pulled ({failure}). "
                "Load it into the engine ('docker load'), or change BASE_IMAGE in the Dockerfile: "
                "python:3.11-slim-bookworm can do without a registry."
            ) from None
        progress(
            f"No registry provides {reference} ({failure}): building the base image from Debian packages (about 30 s)."
        )
    _build_from_packages(client, reference, progress)
    return DEBIAN_BASE


def base_image_here(client: Any, reference: str) -> str | None:
    """The base image that the engine has already: ``reference``, or our Debian image where that can stand in."""
    candidates = [reference, DEBIAN_BASE] if is_replaceable(reference) else [reference]
    return next((name for name in candidates if has_image(client, name)), None)


def is_replaceable(reference: str) -> bool:
    """Whether our Debian image can stand in for that one."""
    return _REPLACEABLE.match(reference) is not None


def has_image(client: Any, reference: str) -> bool:
    """Whether the engine has an image of that name. One call."""
    try:
        client.api.inspect_image(reference)
    except docker.errors.NotFound:
        return False
    except (docker.errors.DockerException, OSError) as error:
        raise EngineError(f"The Docker engine failed when asked for the image {reference}: {error}") from None
    return True


def _pull(client: Any, reference: str) -> None:
    """Pull, but give up on an engine that hears nothing: docker's own limits can add up to minutes."""
    events: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue()

    def read() -> None:
        try:
            for event in client.api.pull(reference, stream=True, decode=True):
                events.put(event)
            events.put(None)
        except Exception as error:
            events.put(error)

    threading.Thread(target=read, daemon=True, name=f"pull {reference}").start()
    patience = FIRST_ANSWER_SECONDS
    while True:
        try:
            event = events.get(timeout=patience)
        except queue.Empty:
            raise _PullError(f"no answer in {patience:.0f} s") from None
        patience = _SILENCE_SECONDS
        if event is None:
            return
        if isinstance(event, Exception):
            raise _PullError(_short(getattr(event, "explanation", None) or str(event)))
        if "error" in event:
            raise _PullError(_short(str(event["error"])))


def _short(reason: str) -> str:
    """The last part of a message such as ``Get "https://...": dial tcp: lookup ...: no such host``."""
    return reason.strip().rsplit(": ", 1)[-1].rstrip(".") if reason.startswith("Get ") else reason.strip().rstrip(".")


def _build_from_packages(client: Any, reference: str, progress: Callable[[str], None]) -> None:
    mmdebstrap = shutil.which("mmdebstrap") or _install_mmdebstrap(reference, progress)
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryDirectory() as empty:
        process = subprocess.Popen(
            [
                *_in_memory(empty),
                mmdebstrap,
                *_RECIPE,
                *_merged_usr(),
                *_apt_options(),
                _SUITE,
                "-",
                *_host_sources(),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        assert process.stdout is not None
        timeout, client.api.timeout = client.api.timeout, None
        try:
            repository, tag = DEBIAN_BASE.split(":")
            client.api.import_image_from_stream(
                _whole(process, process.stdout, errors),
                repository=repository,
                tag=tag,
                changes=_IMPORT_CHANGES,
            )
        except (docker.errors.DockerException, OSError) as error:
            raise EngineError(f"The Docker engine could not import the Debian base image: {error}") from None
        finally:
            client.api.timeout = timeout
            _end(process)
    if not has_image(client, DEBIAN_BASE):
        raise EngineError(
            "The Docker engine did not keep the Debian base image. Is its disk full? ('docker system df')"
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End mmdebstrap, which removes its temporary directory on its way out."""
    if process.stdout:
        process.stdout.close()  # first: a tar that waits for us to read its output would never end
    if process.poll() is None:
        try:
            # To the whole group: its main process ignores the signal and waits for the others.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _whole(process: subprocess.Popen[bytes], stream: IO[bytes], errors: IO[bytes]) -> Iterator[bytes]:
    """The archive. If mmdebstrap fails, raises before the upload has ended, so that the engine drops it."""
    while chunk := stream.read(1 << 20):
        yield chunk
    if process.wait():
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()[-8:]
        raise EngineError(
            "The base image could not be built from Debian packages; mmdebstrap printed:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nCheck this machine's apt mirror and proxy, or load a python:3.11 image ('docker load')."
        )


def _install_mmdebstrap(reference: str, progress: Callable[[str], None]) -> str:
    apt = shutil.which("apt-get")
    if not apt or os.geteuid() != 0:
        raise EngineError(
            f"No registry provides {reference}, and mmdebstrap, which builds one from Debian packages, is "
            "not installed. Run 'sudo apt-get install mmdebstrap', or load the image ('docker load')."
        )
    progress("Installing mmdebstrap with apt-get, to build the base image.")
    install = [
        apt,
        "install",
        "--yes",
        "--quiet",
        "--no-install-recommends",
        "mmdebstrap",
        "debian-archive-keyring",
    ]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Package lists may be missing (a fresh container) or old; only then is the slower update needed.
    for command in (install, [apt, "update", "--quiet"], install):
        done = subprocess.run(command, env=quiet, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if command is install and done.returncode == 0 and (found := shutil.which("mmdebstrap")):
            return found
    raise EngineError(f"apt-get could not install mmdebstrap:\n{done.stderr.strip()}\nInstall it, then run again.")


def _merged_usr() -> list[str]:
    # With directories merged from the start, the package that merges them (and Perl, 50 MB) is not needed.
    return [f"--hook-dir={_HOOKS}", "--include=usr-is-merged"] if _HOOKS.is_dir() else []


def _in_memory(directory: str) -> list[str]:
    """What to put before a command so that its temporary files are in memory; nothing where that cannot be.

    A third faster, and however the command ends, the kernel frees them: the mount is its own.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    own = ["unshare", "--mount", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=1500m none "$0"'
    if os.geteuid() != 0 or free < 3 << 30 or not shutil.which("unshare"):
        return []
    if subprocess.run([*own, mount, directory], stdin=subprocess.DEVNULL, capture_output=True).returncode:
        return []
    return [*own, f'{mount} && TMPDIR="$0" exec "$@"', directory]


def _apt_options() -> list[str]:
    """How this machine's apt reaches its mirrors (proxies, certificates), for mmdebstrap's own apt."""
    dump = _output("apt-config", "dump")
    return [f"--aptopt={line}" for line in dump.splitlines() if re.match(r'Acquire::https?::\S+ "[^"]+";', line)]


def _host_sources() -> list[str]:
    """The machine's own mirrors, if it is of the same Debian; otherwise nothing, which means Debian's."""
    fields = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)"
    lines: list[str] = []
    for row in _output("apt-get", "indextargets", "--format", fields, "Created-By: Packages").splitlines():
        uri, release, component, key = row.split("|", 3)
        if component == "main" and release in (_SUITE, f"{_SUITE}-updates", f"{_SUITE}-security"):
            signed = f"[signed-by={key}] " if key.startswith("/") else ""
            line = f"deb {signed}{uri} {release} main"
            lines += [line] if line not in lines else []
    return lines if any(f" {_SUITE} main" in line for line in lines) else []


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
