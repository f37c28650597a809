"""The cache as an execution uses it: look a job up, restore what it left, or record what it leaves.

Reads and writes ``<state>/steps`` and, to restore, local S3 and the run's logs. Nothing that goes wrong with the cache
ends a step: it is reported once, and the step runs as it would without.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import sleep, time, time_ns

from local_runner.errors import system_trouble
from local_runner.models import PlannedStep, ProcessingInput, ProcessingJob
from local_runner.secrets import Secrets
from local_runner.step_cache.digests import Digested, FileDigests, UnstableError
from local_runner.step_cache.key import InputContent, Machine, Signature, digested, places_of, sign, why_not_cached
from local_runner.step_cache.store import CorruptError, Draft, Manifest, StepStore, StoredFile
from local_runner.storage.files import SETTLED_NS, link_or_copy
from local_runner.storage.local_s3 import DataError, Storage

MachineOf = Callable[[str], Machine | None]
"""What runs a job of that image URI; None where the content of the image is not known."""


@dataclass(frozen=True)
class Looked:
    """A job as it was found before it ran: what it depends on, and which files those were."""

    signature: Signature
    key: str
    inputs: Mapping[str, InputContent]


@dataclass(frozen=True)
class Restored:
    """What a job left, in place as if this run had made it. ``log`` is the log of the run that did."""

    outputs: Mapping[str, Path]
    log: Path | None
    exit_code: int | None
    exit_message: str | None


@dataclass
class StepCache:
    """The cache of one execution of ``pipeline``. ``refresh`` are the steps that run anyway, and are recorded anew.

    ``looked`` is what each step was found to depend on. A ``dry`` one keeps nothing but digests.
    """

    store: StepStore
    digests: FileDigests
    pipeline: str
    machine_of: MachineOf
    note: Callable[[str], None]
    refresh: Collection[str] = ()
    sources: Collection[str] = ()
    secrets: Secrets = field(default_factory=Secrets)
    stored: int = 0
    dry: bool = False
    looked: dict[str, Looked] = field(default_factory=dict[str, Looked])
    begun: dict[str, Mapping[str, InputContent]] = field(default_factory=dict[str, Mapping[str, InputContent]])
    """The inputs of steps as they were found when the execution began; each is used once. Not those that are the
    project's code, which a run copies."""
    _linked: list[tuple[ProcessingInput, Storage, int]] = field(
        default_factory=list[tuple[ProcessingInput, Storage, int]]
    )
    _noted: set[str] = field(default_factory=set[str])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # ------------------------------------------------------------------------------------------------- looking up
    def look(
        self, planned: PlannedStep, job: ProcessingJob, execution: Mapping[str, str], storage: Storage
    ) -> Looked | None:
        """What a job depends on; None where it is not cached, or will fail for want of an input.

        ``execution`` are the variables that expressions see.
        """
        if planned.faults or why_not_cached(job) is not None:
            return None
        try:
            machine = self.machine_of(job.image_uri)
            if machine is None:
                return None
            begun = self.begun.pop(planned.step.name, {})
            inputs = {item.name: begun.get(item.name) or digested(item, storage, self.digests) for item in job.inputs}
        except DataError:
            return None
        except (OSError, UnstableError) as error:
            self._note_once(f"Step '{planned.step.name}' is not cached: {_trouble(error, self.store.directory)}")
            return None
        places = places_of(execution, job.name, self.sources)
        signature = sign(planned.step.name, job, machine, inputs, places, self.secrets)
        looked = Looked(signature, signature.key, inputs)
        with self._lock:
            self.looked[planned.step.name] = looked
        return looked

    def find(self, planned: PlannedStep, looked: Looked) -> Manifest | None:
        """The entry of a job, if there is one and the step is to be taken from the cache. One that lies is dropped."""
        if planned.step.name in self.refresh:
            return None
        try:
            return self.store.manifest(looked.key)
        except CorruptError as error:
            self._drop(planned.step.name, looked.key, error)
        except OSError as error:
            self._unusable(error)
        return None

    def restore(
        self, planned: PlannedStep, looked: Looked, job: ProcessingJob, storage: Storage, work: Path, logs: Path
    ) -> Restored | None:
        """Publish what a job left when it last ran; None where it has to run. Raises DataError as publishing does.

        ``work`` and ``logs`` are scratch space and the place for the logs of the step.
        """
        name = planned.step.name
        manifest = self.find(planned, looked)
        if manifest is None:
            return None
        try:
            kept = self.store.files(manifest, self.digests)
            if set(manifest.outputs) != {output.name for output in job.outputs}:
                raise CorruptError("it has other outputs")
            outputs: dict[str, Path] = {}
            moves: dict[str, tuple[Path, str]] = {}
            for number, output in enumerate(job.outputs):
                files = {file.path: kept[file.stored][0] for file in manifest.outputs[output.name]}
                if storage.holds(files, output.s3_uri):
                    outputs[output.name] = storage.path(output.s3_uri).resolve()
                    continue
                directory = work / f"cached-{number}"
                self._link(manifest.outputs[output.name], kept, directory)
                moves[output.name] = directory, output.s3_uri
            places = storage.publish_all(list(moves.values()))
            outputs |= {name: place.resolve() for name, place in zip(moves, places, strict=True)}
            self._link(manifest.logs, kept, logs)
        except CorruptError as error:
            self._drop(name, looked.key, error)
            return None
        except (OSError, UnstableError) as error:
            self._note_once(f"Step '{name}' is not taken from the cache: {_trouble(error, self.store.directory)}")
            return None
        if not self.dry:
            self.store.used(looked.key)
        shown = [logs / file.path for file in manifest.logs]
        combined = logs / "all-hosts.log"
        log = combined if combined in shown else next(iter(shown), None)
        return Restored(outputs, log, manifest.exit_code, manifest.exit_message)

    def _link(self, files: tuple[StoredFile, ...], kept: Mapping[str, tuple[Path, Digested]], directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        made = {""}
        for file in files:
            path, content = kept[file.stored]
            place = f"{directory}/{file.path}"
            folder = file.path.rpartition("/")[0]
            if folder not in made:
                (directory / folder).mkdir(parents=True, exist_ok=True)
                made.add(folder)
            link_or_copy(path, place)
            self.digests.linked(place, content)

    # ------------------------------------------------------------------------------------------------ recording
    def begin(self, planned: PlannedStep, looked: Looked | None, work: Path) -> Recording | None:
        """Record the job that is about to run; None where it is not cached."""
        if looked is None or self.dry:
            return None
        try:
            self.store.keep_signature(looked.key, looked.signature)
        except OSError as error:
            self._unusable(error)
        draft = Draft(work / "cache-entry", self.digests)
        return Recording(planned.step.name, looked, draft, self.store.directory, self._linked)

    def _settle(self) -> None:
        """Look again at the inputs of which jobs had links: now that these are removed, their ctimes stay.

        Without that the next run would read all of them again.
        """
        if not self._linked:
            return
        sleep(2 * SETTLED_NS / 1e9)  # until a change would have another time stamp
        with self.digests.linking(since=min(since for _, _, since in self._linked)):
            pass
        for item, storage, _ in self._linked:
            with suppress(OSError, UnstableError, DataError):
                digested(item, storage, self.digests)

    def finish(self, recording: Recording, logs: Path, manifest: Manifest) -> None:
        """Keep what a job that succeeded has left; or say why not."""
        directory = recording.draft.directory
        try:
            if recording.refused is None:
                entry = replace(manifest, outputs=recording.outputs, logs=recording.draft.take(logs))
                self.store.add(directory, entry)
                self.stored += 1
                return
            self._note_once(recording.refused)
        except (OSError, UnstableError) as error:
            self._unusable(error)
        shutil.rmtree(directory, ignore_errors=True)

    def close(self) -> None:
        """Keep the digests, and which keys the steps had. Where that cannot be, the next run takes longer.

        To be called when what the jobs had is removed.
        """
        self._settle()
        try:
            self.digests.save()
            if not self.dry:
                self.store.keep_last(self.pipeline, {step: looked.key for step, looked in self.looked.items()})
        except OSError as error:
            self._unusable(error)

    # ------------------------------------------------------------------------------------------------- troubles
    def _drop(self, step: str, key: str, error: CorruptError) -> None:
        self._note_once(f"The cache entry of step '{step}' is damaged ({error}). It is removed, and the step runs.")
        with suppress(OSError):
            self.store.drop(key)

    def _unusable(self, error: Exception) -> None:
        trouble = _trouble(error, self.store.directory)
        self._note_once(f"The step cache cannot be used, so steps run uncached. {trouble}", once="the cache")

    def _note_once(self, text: str, once: str = "") -> None:
        with self._lock:
            if (once or text) in self._noted:
                return
            self._noted.add(once or text)
        self.note(text)


@dataclass
class Recording:
    """One job that runs. ``refused`` says why it will not be kept."""

    step: str
    looked: Looked
    draft: Draft
    place: Path
    linked: list[tuple[ProcessingInput, Storage, int]]
    """Gets the inputs of which the job has links, and when that was found."""
    outputs: dict[str, tuple[StoredFile, ...]] = field(default_factory=dict[str, tuple[StoredFile, ...]])
    refused: str | None = None

    def ran(self, job: ProcessingJob, storage: Storage) -> None:
        """The job is over, and nothing of it published yet: its inputs have to be what they were."""
        digests = self.draft.digests
        same = True
        for item in job.inputs:
            before = digests.linked_anew
            try:
                same = same and digested(item, storage, digests) == self.looked.inputs[item.name]
            except (OSError, UnstableError, DataError):
                same = False
            if digests.linked_anew > before:
                self.linked.append((item, storage, time_ns()))
        if not same:
            self.refused = f"Step '{self.step}' is not cached: an input of it changed while it ran."

    def keep(self, output: str, directory: Path) -> None:
        """Take what an output holds, before it is published."""
        if self.refused is None:
            try:
                self.outputs[output] = self.draft.take(directory)
            except (OSError, UnstableError) as error:
                self.refused = f"Step '{self.step}' is not cached: {_trouble(error, self.place)}"

    def manifest(self, execution: str, seconds: float, exit_code: int | None, exit_message: str | None) -> Manifest:
        """The manifest of the job, which has ended, without its files."""
        return Manifest(self.looked.key, self.step, execution, time(), seconds, exit_code, exit_message, {}, ())


def _trouble(error: Exception, place: Path) -> str:
    return system_trouble(error, place) if isinstance(error, OSError) else f"{error}."
