"""Which steps of a pipeline an execution runs, and the earlier execution that stands for the others. Reads ``runs/``.

The rules are those of selective execution in the cloud (developer guide, Selective execution of pipeline steps; API
SelectiveExecutionConfig): steps that are not selected do not run, what selected ones read of them comes from a source
execution, and no step between two selected ones may be left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_runner.definition.references import did_you_mean, expressions_of
from local_runner.definition.syntax import GetParameter
from local_runner.errors import SettingsError
from local_runner.jsontext import shorten, value_text
from local_runner.models import ParameterValue, PipelineDefinition
from local_runner.planning.order import dependencies, following, reach
from local_runner.sagemaker_api.job_types import AT_ONCE_TYPES
from local_runner.secrets import is_kept
from local_runner.storage.records import Each, RecordError, check
from local_runner.storage.runs import DESCRIBED, RECORD, read_kept


@dataclass(frozen=True)
class Selection:
    """What the command line asks for: these steps, those that follow some, those that lead to some, or what failed.

    ``allow_mixed`` goes on from an execution that had other values of parameters that what is taken from it depends on.
    """

    only: Sequence[str] = ()
    start: Sequence[str] = ()
    end: Sequence[str] = ()
    resume: bool = False
    allow_mixed: bool = False

    def __bool__(self) -> bool:
        return bool(self.only or self.start or self.end or self.resume)


@dataclass(frozen=True)
class SourceExecution:
    """An earlier execution, and what Describe says of its steps that succeeded, or that it went on from itself."""

    id: str
    status: str
    parameters: Mapping[str, ParameterValue]
    described: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Selected:
    """The steps to run (empty: all), and what the others left: from which execution, and its parameters if resumed."""

    steps: tuple[str, ...] = ()
    source: SourceExecution | None = None
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict[str, ParameterValue])


def select(definition: PipelineDefinition, wanted: Selection, state: Path) -> Selected:
    """The steps that a selection means. Raises SettingsError where it names none, or cannot be."""
    waits = {step.name: {each.step for each in dependencies(step, definition)} for step in definition.steps}
    if wanted.resume:
        if wanted.only or wanted.start or wanted.end:
            raise SettingsError("--resume says itself which steps run: give it without --only, --from and --to.")
        return _resumed(definition, state)
    for name in (*wanted.only, *wanted.start, *wanted.end):
        if name not in waits:
            raise SettingsError(
                f"There is no step '{name}'. {did_you_mean(name, waits) or 'There are ' + ', '.join(waits) + '.'}"
            )
    names = set(waits)
    if wanted.start:
        names &= reach(wanted.start, following(waits))
    if wanted.end:
        names &= reach(wanted.end, waits)
    if wanted.only:
        names = names & set(wanted.only) if wanted.start or wanted.end else set(wanted.only)
    if not names:
        raise SettingsError("No step is selected: no step of --to follows one of --from.")
    _check_between(names, waits)
    types = {step.name: step.type for step in definition.steps}
    needed = {other for name in names for other in waits[name] - names if types[other] not in AT_ONCE_TYPES}
    source = next((each for each in _executions(definition.name, state) if needed <= each.described.keys()), None)
    return Selected(tuple(name for name in waits if name in names), source if needed else None)


def mixed(
    definition: PipelineDefinition, selected: Selected, values: Mapping[str, str | None]
) -> dict[str, tuple[str, str]]:
    """The parameters that what is taken from an earlier execution depends on, and that had another value there.

    Each with the value there and the one now. ``values`` are those of now, as texts.
    """
    if selected.source is None or not selected.steps:
        return {}
    waits = {step.name: {each.step for each in dependencies(step, definition)} for step in definition.steps}
    taken = reach({other for name in selected.steps for other in waits[name]} - set(selected.steps), waits)
    used = {
        part.name
        for step in definition.steps
        if step.name in taken - set(selected.steps)
        for _, expression in expressions_of(step)
        for part in ([expression] if isinstance(expression, GetParameter) else [])
    }
    there = {name: value_text(value) for name, value in selected.source.parameters.items()}
    return {
        name: (there[name], str(values[name]))
        for name in sorted(used & there.keys() & values.keys())
        if values[name] is not None and not is_kept(there[name]) and there[name] != values[name]
    }


def _resumed(definition: PipelineDefinition, state: Path) -> Selected:
    """What the last execution did not bring to its end, with its parameters."""
    last = next(_executions(definition.name, state), None)
    if last is None:
        raise SettingsError(f"There is no execution of {definition.name} to resume. Run it without --resume.")
    if last.status == "Succeeded":
        raise SettingsError(f"The last execution ({last.id}) succeeded, so there is nothing to resume.")
    # Those that end at once run again: a resumed execution has to know which branch it is in.
    left = [step.name for step in definition.steps if step.type in AT_ONCE_TYPES or step.name not in last.described]
    return Selected(tuple(left), last, last.parameters)


def _check_between(names: set[str], waits: Mapping[str, set[str]]) -> None:
    """No step may be left out that is after one selected step and before another."""
    between = (reach(names, following(waits)) & reach(names, waits)) - names
    if between:
        listed = ", ".join(name for name in waits if name in between)
        raise SettingsError(f"Steps between two selected ones cannot be left out: {listed}. Select them, too.")


def _executions(pipeline: str, state: Path) -> Iterator[SourceExecution]:
    """The executions of a pipeline that ended, the last one first.

    Raises SettingsError where a record cannot be read: it may be of this pipeline, and to continue an older one in
    its place would be to continue something else than was meant.
    """
    found: list[tuple[str, Path, dict[str, Any] | RecordError]] = []
    for path in (state / "runs").glob(f"*/{RECORD}"):
        with suppress(FileNotFoundError):  # another process has just removed it
            record = _record(path, pipeline)
            if isinstance(record, RecordError):
                found.append((_changed(path), path.parent, record))
            elif record is not None:
                found.append((record["started"], path.parent, record))
    for _, directory, record in sorted(found, key=lambda item: item[0], reverse=True):
        if isinstance(record, RecordError):
            raise _unreadable(directory, RECORD, record)
        described: dict[str, Any] = {}
        try:
            described = read_kept(directory, DESCRIBED, _DESCRIBED)
        except FileNotFoundError:
            pass  # there was no room for it
        except RecordError as error:
            raise _unreadable(directory, DESCRIBED, error) from None
        yield SourceExecution(record["id"], record["status"], record["parameters"], described)


_RECORD = {
    "id": str,
    "pipeline": str,
    "status": str,
    "parameters": Each((str, int, float, bool)),
    "started": str,
}
_DESCRIBED = Each(Each(object))


def _record(path: Path, pipeline: str) -> dict[str, Any] | RecordError | None:
    """The record of an execution of the pipeline, or what is wrong with it; None where it is another's."""
    try:
        record = read_kept(path.parent, RECORD, {"pipeline": str})
        if record["pipeline"] != pipeline:
            return None
        check(record, _RECORD, "")
        if record["id"] != path.parent.name:
            raise RecordError(f"it is of another execution, {shorten(record['id'])}")
    except RecordError as error:
        return error
    return record


def _changed(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")


def _unreadable(directory: Path, file: str, error: RecordError) -> SettingsError:
    return SettingsError(
        f"The record of execution {directory.name} is not readable: {error} ({directory / file}). Run the whole "
        f"pipeline again, so that there is a later one to continue, or remove {directory}."
    )
