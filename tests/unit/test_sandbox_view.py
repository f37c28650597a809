"""What the sandbox shows of the host: interpreters wherever they are linked from, and never a home or a
project.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from local_runner.engines.sandbox.view import HostView, hosts_file
from local_runner.models import BindMount, InputMount, StagedHost


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def interpreter(prefix: Path) -> Path:
    program = prefix / "bin" / "python3.11"
    program.parent.mkdir(parents=True)
    (prefix / "lib").mkdir()
    program.touch()
    return program


def venv(path: Path, program: Path) -> Path:
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").symlink_to(program)
    (path / "pyvenv.cfg").write_text(f"home = {program.parent}\n")
    return path


def targets(view: HostView) -> set[str]:
    return {target for _, target in view.read_only}


def test_a_venv_comes_with_the_interpreter_it_is_built_on(home: Path):
    prefix = home / ".pyenv/versions/3.11.7"
    environment = venv(home / "project/.venv", interpreter(prefix))
    seen = targets(HostView(environment, [home / "project"]))
    assert {str(environment), str(prefix), "/usr", "/etc"} <= seen
    assert not {str(home), str(home / "project"), str(home / ".pyenv")} & seen


def test_a_linked_installation_is_there_under_both_names(home: Path):
    real = interpreter(home / "python/cpython-3.11.9")
    (home / "python/cpython-3.11").symlink_to("cpython-3.11.9")
    environment = venv(home / ".venv", home / "python/cpython-3.11/bin/python3.11")
    pairs = HostView(environment).read_only
    assert (str(real.parents[1]), str(home / "python/cpython-3.11")) in pairs
    assert (str(real.parents[1]), str(real.parents[1])) in pairs


def test_an_interpreter_right_in_the_home_directory_does_not_bring_it_along(home: Path):
    environment = venv(home / "project/.venv", interpreter(home))
    seen = targets(HostView(environment))
    assert str(home) not in seen
    assert {f"{home}/bin", f"{home}/lib", str(environment)} <= seen


def test_nothing_is_mounted_twice(home: Path):
    environment = venv(home / ".venv", Path("/usr/bin/python3"))
    seen = targets(HostView(environment))
    assert len(seen) == len(HostView(environment).read_only)
    assert not [target for target in seen if target.startswith("/usr/")]


def test_hidden_directories_count_only_below_what_is_shown(home: Path):
    view = HostView(Path("/usr"), [home, Path("/usr/src/project"), Path("/")])
    assert view.hidden == ["/usr/src/project"]


def test_an_environment_in_a_hidden_directory_is_shown_again():
    view = HostView(Path("/usr/src/project/.venv"), [Path("/usr/src/project")])
    assert "/usr/src/project/.venv" in targets(view)


def test_specification_of_a_host(tmp_path: Path):
    host = StagedHost(
        "algo-2",
        (InputMount("/opt/ml/processing/a/b", (tmp_path,), tmp_path / "scratch"),),
        (BindMount("/opt/ml/processing/", tmp_path),),
        tmp_path / "log",
    )
    specification = HostView(Path("/env")).host(host, ["run", "ü"], {"LANG": "C"}, tmp_path, tmp_path / "hosts", 7, [])
    assert [mount["target"] for mount in specification["mounts"]] == [
        b"/opt/ml/processing",
        b"/opt/ml/processing/a/b",
    ]
    assert specification["argv"] == [b"run", "ü".encode()]
    assert specification["environment"][b"PATH"].startswith(b"/env/bin:")
    assert specification["environment"][b"LANG"] == b"C"
    assert specification["environment"][b"HOSTNAME"] == b"algo-2"
    assert not [name for name in specification["environment"] if name.startswith(b"AWS")]
    assert all(target.startswith(b"/") for _, target in specification["read_only"])


def test_hosts_have_addresses_of_their_own():
    lines = hosts_file(["algo-1", "algo-2"]).splitlines()
    assert lines[0] == "127.0.0.1 localhost"
    assert lines[-2:] == ["127.0.0.1 algo-1", "127.0.0.2 algo-2"]
