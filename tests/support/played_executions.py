"""A real HTTP service in front of moto's: it plays pipeline executions, which moto only has as names.

Moto has no ListPipelineExecutionSteps and no StopPipelineExecution, its executions succeed at once, and it deletes a
pipeline that runs. These operations are answered here, everything else is passed on. What an execution does is a
``Played``: steps with a beginning and an end in seconds after the start, so that time passes as in the service.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from support.http_handler import QuickHandler

_DELETION = re.compile(r"^DELETE (?!.*promotion.lock)|^(AWSEvents\.)?(Delete|Remove)\w+ |Action=Delete")
MODEL = ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")


@dataclass(frozen=True)
class PlayedStep:
    """A step from ``begin`` to ``end`` seconds after the start. ``job`` is a processing job's name."""

    name: str
    begin: float = 0.0
    end: float = 0.3
    status: str = "Succeeded"
    reason: str = ""
    job: str = ""
    exit_message: str = ""
    outcome: str = ""
    error_message: str = ""


@dataclass
class Played:
    """What an execution does. It is over when its last step is, or after ``stopping`` seconds when it is stopped."""

    steps: Sequence[PlayedStep] = (PlayedStep("Only"),)
    status: str = "Succeeded"
    reason: str = ""
    stopping: float = 0.3
    started: float = field(default_factory=time.time)
    stopped: float | None = None

    @property
    def over_at(self) -> float:
        end = self.started + max((step.end for step in self.steps), default=0.0)
        return end if self.stopped is None else min(end, self.stopped + self.stopping)

    @property
    def current_status(self) -> str:
        if time.time() >= self.over_at:
            return self.status if self.stopped is None else "Stopped"
        return "Executing" if self.stopped is None else "Stopping"

    def listed(self) -> list[dict[str, Any]]:
        """The steps that have begun, as ListPipelineExecutionSteps has them: the newest first."""
        return [self._listed(step) for step in self.steps if time.time() >= self.started + step.begin][::-1]

    def _listed(self, step: PlayedStep) -> dict[str, Any]:
        ended = min(self.started + step.end, self.over_at)
        over = time.time() >= ended
        cut = self.stopped is not None and ended < self.started + step.end
        item: dict[str, Any] = {
            "StepName": step.name,
            "StartTime": self.started + step.begin,
            "StepStatus": ("Stopped" if cut else step.status) if over else "Executing",
            "AttemptCount": 1,
        }
        metadata: dict[str, Any] = {}
        if step.job:
            metadata["ProcessingJob"] = {"Arn": f"arn:aws:sagemaker:eu-west-1:123456789012:processing-job/{step.job}"}
        if over:
            item["EndTime"] = ended
            if step.reason:
                item["FailureReason"] = step.reason
            if step.outcome:
                metadata["Condition"] = {"Outcome": step.outcome}
            if step.error_message:
                metadata["Fail"] = {"ErrorMessage": step.error_message}
        return item | ({"Metadata": metadata} if metadata else {})


@dataclass
class Service:
    """The service that answers at ``url``. ``requests`` are those so far: (operation or path, body).

    ``play`` is what the next executions do. An operation in ``denied`` is refused; ``dropped`` says how many times
    each operation's connection is closed without an answer. ``writes_left``: how many more deletions are taken.
    """

    url: str = ""
    play: Callable[[], Played] = Played
    executions: dict[str, Played] = field(default_factory=dict[str, Played])
    requests: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]], repr=False)
    denied: set[str] = field(default_factory=set[str])
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    writes_left: int | None = None

    def made(self, operation: str) -> list[Any]:
        """The bodies of the requests for an operation."""
        return [body for name, body in self.requests if name == operation]


@contextmanager
def serving(moto: tuple[str, int]) -> Iterator[Service]:
    """The service, in front of the moto server at that address."""
    service, lock = Service(), Lock()

    class Handler(QuickHandler):
        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            operation = (self.headers.get("X-Amz-Target") or f"{self.command} {self.path}").removeprefix("SageMaker.")
            is_json = body[:1] in (b"{", b"[")
            with lock:
                service.requests.append((operation, json.loads(body) if is_json else body))
                drop = service.dropped.get(operation, 0)
                service.dropped[operation] = max(drop - 1, 0)
            if drop:
                self.close_connection = True
                return
            deletes = service.writes_left is not None and _DELETION.search(
                operation + " " + body.decode(errors="replace")
            )
            if deletes:
                service.writes_left = max((service.writes_left or 0) - 1, -1)
            if operation in service.denied or (deletes and service.writes_left == -1):
                self._deny(operation, body)
                return
            answer = _answers.get(operation)
            played = answer and answer(service, json.loads(body or b"{}"))
            if played is None:
                self._pass_on(operation, body)
            elif "__type" in played:
                self._answer(400, played)
            else:
                output = MODEL.operation_model(operation).output_shape
                assert set(played) <= set(getattr(output, "members", ())), played
                self._answer(200, played)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do  # noqa: N815

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            text = json.dumps(document).encode()
            self._send(status, [("Content-Type", "application/x-amz-json-1.1")], text)

        def _deny(self, operation: str, body: bytes) -> None:
            if b"Version=" in body:  # IAM and SNS speak XML
                what = "<Code>AccessDenied</Code><Message>not authorized</Message>"
                text = f"<ErrorResponse><Error>{what}</Error><RequestId>1</RequestId></ErrorResponse>"
                self._send(403, [("Content-Type", "text/xml")], text.encode())
            else:
                self._answer(400, {"__type": "AccessDeniedException", "message": f"not authorized: {operation}"})

        def _send(self, status: int, headers: list[tuple[str, str]], text: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "connection", "transfer-encoding", "server", "date"):
                    self.send_header(name, value)
            length = {name.lower(): value for name, value in headers}.get("content-length")
            self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def _pass_on(self, operation: str, body: bytes) -> None:
            connection = HTTPConnection(*moto, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            text = answer.read()
            if operation == "StartPipelineExecution" and answer.status == 200:
                service.executions[json.loads(text)["PipelineExecutionArn"]] = service.play()
            self._send(answer.status, answer.getheaders(), text)
            connection.close()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=[0.02], daemon=True)  # looks so often whether it shall end
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


# ---------------------------------------------------------------------------------------------------- answers
def _unknown(arn: str) -> dict[str, Any]:
    return {"__type": "ResourceNotFound", "message": f"Pipeline execution with ARN {arn} does not exist."}


def _describe(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    arn = request["PipelineExecutionArn"]
    played = service.executions.get(arn)
    if played is None:
        return _unknown(arn)
    answer: dict[str, Any] = {
        "PipelineArn": arn.partition("/execution/")[0],
        "PipelineExecutionArn": arn,
        "PipelineExecutionStatus": played.current_status,
        "CreationTime": played.started,
        "LastModifiedTime": min(time.time(), played.over_at),
    }
    return answer | ({"FailureReason": played.reason} if played.reason and time.time() >= played.over_at else {})


def _list(service: Service, request: dict[str, Any]) -> dict[str, Any] | None:
    found = [
        {"PipelineExecutionArn": arn, "StartTime": played.started, "PipelineExecutionStatus": played.current_status}
        for arn, played in service.executions.items()
        if f":pipeline/{request['PipelineName']}/".lower() in arn.lower()
    ]
    if not found:
        return None  # moto knows whether there is such a pipeline at all
    found.sort(key=lambda item: item["StartTime"], reverse=request.get("SortOrder", "Descending") == "Descending")
    return {"PipelineExecutionSummaries": found[: request.get("MaxResults", 100)]}


def _steps(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    arn = request["PipelineExecutionArn"]
    if arn not in service.executions:
        return _unknown(arn)
    # Pages of two: whoever reads only the first one loses steps.
    listed, start = service.executions[arn].listed(), int(request.get("NextToken") or 0)
    more = {"NextToken": str(start + 2)} if start + 2 < len(listed) else {}
    return {"PipelineExecutionSteps": listed[start : start + 2], **more}


def _stop(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    arn = request["PipelineExecutionArn"]
    if arn not in service.executions:
        return _unknown(arn)
    service.executions[arn].stopped = service.executions[arn].stopped or time.time()
    return {"PipelineExecutionArn": arn}


def _job(service: Service, request: dict[str, Any]) -> dict[str, Any]:
    name = request["ProcessingJobName"]
    steps = [step for played in service.executions.values() for step in played.steps if step.job == name]
    if not steps:
        return {"__type": "ResourceNotFound", "message": f"no job {name}"}
    message = {"ExitMessage": steps[0].exit_message} if steps[0].exit_message else {}
    return {"ProcessingJobName": name, "ProcessingJobStatus": "Completed", **message}


def _delete(service: Service, request: dict[str, Any]) -> dict[str, Any] | None:
    name = request["PipelineName"]
    mine = [arn for arn in service.executions if f":pipeline/{name}/".lower() in arn.lower()]
    if any(time.time() < service.executions[arn].over_at for arn in mine):
        text = f"Unable to delete pipeline {name}: it has running executions. {uuid.uuid4()}"
        return {"__type": "ConflictException", "message": text}
    for arn in mine:
        del service.executions[arn]
    return None


_answers: dict[str, Callable[[Service, dict[str, Any]], dict[str, Any] | None]] = {
    "DescribePipelineExecution": _describe,
    "ListPipelineExecutions": _list,
    "ListPipelineExecutionSteps": _steps,
    "StopPipelineExecution": _stop,
    "DescribeProcessingJob": _job,
    "DeletePipeline": _delete,
}
