"""An HTTP proxy in front of the emulator, told by a test which calls to let through, refuse or cut off."""

import http.client
import json
import re
import threading
from html import escape
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from support.http_handler import QuickHandler
from support.strict_account import refusal_of

HANG = "hang"
"""In place of an error code: the call is not made and not answered, for as long as the test goes on."""

READS = re.compile("Describe|Get|List|Batch|Head|GET|HEAD")


class Proxy:
    """``rule(call)`` is asked for each call: None lets it through, else an error code, sent in place of the answer.

    ``after`` says whether the emulator still makes the call whose answer is an error. ``calls`` are all there were.
    ``refused`` are the calls that the account itself refused, ``settings`` what it does so for beside what all accounts
    refuse (strict_account.py). ``edit(call, body, answer)`` may put another answer, (status, headers, content), in the
    place of the emulator's.
    """

    def __init__(self, target):
        self.rule, self.after, self.calls = (lambda _: None), False, []
        self.refused, self.settings = [], []
        self.edit = lambda _call, _body, answer: answer
        self._over = threading.Event()
        self._target, self._lock = urlsplit(target).netloc, threading.Lock()
        proxy = self

        class Handler(QuickHandler):
            def answer(self):
                proxy.answer(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def writes(self):
        return [call for call in self.calls if is_write(call)]

    def clear(self):
        """Let everything through, and forget what there was."""
        self.rule, self.after, self.calls = (lambda _: None), False, []

    def answer(self, handler):
        body = read_body(handler)
        scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([a-z0-9-]+)/", handler.headers.get("Authorization", ""))
        service = scope[1] if scope else "?"
        call = f"{service}:{operation(handler, body)}"
        with self._lock:
            self.calls.append(call)
            code = self.rule(call)
        said = f"{code}, says the proxy"
        if code is None and (refused := refusal_of(service, handler, body, self.settings)):
            code, said = refused
            self.refused.append((call, said))
        if code == HANG:
            handler.close_connection = self._over.wait(60)
            return
        if code is None or self.after:
            status, headers, content = self.edit(call, body, self.forward(handler, body))
        if code is not None:
            status, headers, content = refusal(service, code, said)
        handler.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                handler.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length", str(len(content)))
        handler.send_header("Content-Length", length if handler.command == "HEAD" else str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    def forward(self, handler, body):
        if not hasattr(handler, "connection_to_target"):
            handler.connection_to_target = http.client.HTTPConnection(self._target, timeout=60)
        connection = handler.connection_to_target
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in ("expect",)}
        headers.pop("Transfer-Encoding", None)
        headers["Content-Length"] = str(len(body))
        connection.request(handler.command, handler.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()


def read_body(handler):
    if "chunked" in handler.headers.get("Transfer-Encoding", ""):
        parts = []
        while size := int(handler.rfile.readline().split(b";")[0], 16):
            parts.append(handler.rfile.read(size))
            handler.rfile.readline()
        handler.rfile.readline()
        return b"".join(parts)
    return handler.rfile.read(int(handler.headers.get("Content-Length", 0)))


def operation(handler, body):
    """The operation's name where the protocol has one, else method and path."""
    if target := handler.headers.get("X-Amz-Target"):
        return target.rpartition(".")[2]
    if action := parse_qs(body.decode("latin-1")).get("Action"):
        return action[0]
    return f"{handler.command} {handler.path}"


def is_write(call):
    return not READS.match(call.partition(":")[2])


def refusal(service, code, said):
    """What the service answers in its own protocol."""
    status = 400 if code not in ("AccessDenied", "SlowDown") else {"AccessDenied": 403, "SlowDown": 503}[code]
    if service == "s3":
        text = f"<Error><Code>{code}</Code><Message>{escape(said)}</Message></Error>"
    elif service in ("iam", "sns", "sts"):
        text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{escape(said)}</Message></Error></ErrorResponse>"
    else:
        content = json.dumps({"__type": code, "message": said})
        return status, [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-errortype", code)], content.encode()
    return status, [("Content-Type", "text/xml")], text.encode()
