"""Everything but Docker: Python, packages, the project, the sandbox, credentials.

Reads files, starts uv, pip and one sandboxed process.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from local_runner.errors import COMPILE_EXTRA
from local_runner.image.sandbox_packages import environment_directory, find_uv, is_complete, own_index, pip_settings
from local_runner.image.source import ImageSource, read_sandbox_source
from local_runner.run.doctor.check import Check, first_line_of, sudo, without_secrets
from local_runner.settings import Settings, load_settings

_WAY_TO_KEYS = re.compile(r"^\s*(aws_access_key_id|role_arn|sso_\w+|credential_process)\s*=", re.MULTILINE)

PROJECT, SDK, SANDBOX, PACKAGES, COMPILE = "Project", "SageMaker SDK", "Sandbox", "Sandbox packages", "Compile"


def python() -> list[Check]:
    """The interpreter, and what installs packages."""
    python = Check("Python", "ok", f"{platform.python_version()}, {sys.executable}")
    uv = find_uv()
    if uv is None:
        return [python, Check("uv", "gap", "not found; it makes the sandbox's packages", "pip install uv")]
    try:
        pip = f"pip {version('pip')}"
    except PackageNotFoundError:
        return [python, Check("pip", "gap", "not found; it fetches the image's packages", f"{uv} pip install pip")]
    return [python, Check("uv, pip", "ok", f"{first_line_of(uv, '--version').partition(' (')[0] or uv}, {pip}")]


def package_index(root: Path) -> Check:
    """Where packages come from, for the image (pip) and for the sandbox (uv, with pip's settings if it has none)."""
    values = pip_settings()
    names = ("index-url", "extra-index-url", "find-links", "no-index", "proxy", "cert")
    given = [f"{name} {without_secrets(values[name])}" for name in names if values.get(name)]
    detail = f"pip: {', '.join(given) or 'its default'}"
    own = own_index(root)
    if own in os.environ:
        detail += f"; uv: {own} {without_secrets(os.environ[own])}"
    elif own:
        detail += f"; uv: as {own} says"
    return Check("Package index", "ok", detail)


def sdk() -> Check:
    """The installed SDK; it is not imported, which would take seconds."""
    try:
        found = version("sagemaker")
    except PackageNotFoundError:
        return Check(SDK, "gap", "not installed; pipeline.py cannot be compiled without it", COMPILE_EXTRA)
    return Check(SDK, "ok", found)


def project(root: Path) -> tuple[Settings, ImageSource | None, Check]:
    """The settings, and what the Dockerfile says; raises SettingsError."""
    settings = load_settings(root)
    entry = settings.pipeline.entry
    source = read_sandbox_source(settings)
    if not (settings.root / entry.partition(":")[0]).is_file():
        what = f"{entry} is not in {settings.root}; a definition can be run all the same"
        return settings, source, Check(PROJECT, "none", what, "local-runner run DEFINITION.json")
    return settings, source, Check(PROJECT, "ok", f"{entry} in {settings.root}")


def sandbox(source: ImageSource | None, state: Path) -> list[Check]:
    """Whether sandboxed jobs can run here, and whether their packages are installed."""
    from local_runner.engines.sandbox import engine as sandbox

    reason = sandbox.available()
    found = Check(SANDBOX, "gap", reason, _command_in(reason)) if reason else Check(SANDBOX, "ok", "namespaces work")
    if source is None:
        return [found]
    directory = environment_directory(source, state)
    if is_complete(directory):
        return [found, Check(PACKAGES, "ok", str(directory))]
    if find_uv() is None:
        return [found, Check(PACKAGES, "gap", "not made, and uv is not there to make them", "pip install uv")]
    what = "not made; the first run in the sandbox makes them"
    return [found, Check(PACKAGES, "none", what, "local-runner run --engine sandbox")]


def compiling() -> Check:
    """Whether pipeline.py is compiled in namespaces here."""
    from local_runner.compile.isolation import unavailable

    if sys.platform != "linux":
        reason: str | None = "only Linux has namespaces."
    else:
        reason = unavailable()
    if reason:
        what = f"pipeline.py is kept offline by a guard only, no boundary: {reason}"
        return Check(COMPILE, "none", what, _command_in(reason))
    return Check(COMPILE, "ok", "isolated: namespaces without network and home")


def _command_in(advice: str) -> str:
    """The command that an advice ends with, if there is one."""
    found = re.search(r"sysctl -w \S+", advice)
    return f"{sudo()}{found.group()}" if found else ""


def credentials(environment: Mapping[str, str], home: Path) -> Check:
    """Where there are credentials, not which, nor whether they work: that would be a call to AWS."""
    variables = (
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )
    places = [name for name in variables if environment.get(name)]
    for variable, default in (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")):
        path = Path(environment.get(variable) or home / ".aws" / default)
        with suppress(OSError):
            places += [str(path)] if _WAY_TO_KEYS.search(path.read_text(errors="replace")) else []
    if places:
        return Check("AWS credentials", "ok", f"{', '.join(places)}; local runs do not use them")
    return Check("AWS credentials", "none", "none found; local runs need none")
