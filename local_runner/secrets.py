"""What is secret in a pipeline, and what stands in its place: a keyed hash in records, ``***`` in logs and messages.

Names say what is secret (``secret`` of ``[pipeline]`` in local_runner.toml); the values under those names are then
looked for wherever they appear. Reads and writes ``<state>/secret.key`` and nothing else. docs/SECRETS.md says what is
kept where.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, AnyStr

from local_runner.errors import Problem
from local_runner.jsontext import as_list, as_object, value_text

DEFAULT_PATTERNS = (
    *("*PASSWORD*", "*PASSWD*", "*PASSPHRASE*", "*SECRET*", "*CREDENTIAL*", "*API_KEY*", "*APIKEY*"),
    *("*ACCESS_KEY*", "*ACCESSKEY*", "*PRIVATE_KEY*", "*PRIVATEKEY*", "*CONNECTION_STRING*", "*CONNECTIONSTRING*"),
    *("*TOKEN*", "!*TOKENS", "!*TOKENS_*", "!*TOKENIZ*"),
)
"""What is secret in every project. Numbers of tokens (MAX_TOKENS) and tokenizers are none."""

SHORTEST = 4
"""Characters of the shortest value that is looked for in texts; shorter ones would be found everywhere."""

SHOWN = "***"
KEPT = "secret:hmac:"
"""Begins what a record has in place of a secret."""

NOT_KEPT = "secret:not-kept"
"""In place of a secret where different machines write, which share no key: records in the account, fingerprints."""

_KEPT = re.compile(re.escape(KEPT) + "[0-9a-f]{16}")
_TABLES = ("Environment", "HyperParameters", "OutputParameters")
"""Members of requests and of Describe's answers whose keys are names that the user chose."""

_KEY_FILE = "secret.key"
_KEY_BYTES = 32
_SHORTEST_LINE = 8
_SHORTEST_FRAGMENT = 8
"""Characters of what is masked where a text was cut: fewer tell little, and stand in many texts."""

_NO_SECRETS = ("true", "false", "none", "null")

_UNSEEN = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
"""Escape sequences, control characters, and characters that reorder or hide text."""


@dataclass(frozen=True)
class SecretNames:
    """Which names are secret. Of the patterns that fit a name the last one decides; ``!`` in front says no.

    ``*``, ``?`` and ``[...]`` as in the shell; upper and lower case are the same.
    """

    patterns: tuple[str, ...] = ()

    def __contains__(self, name: object) -> bool:
        lower = str(name).lower()
        fitting = [each for each in self.patterns if fnmatchcase(lower, each.removeprefix("!").lower())]
        return bool(fitting) and not fitting[-1].startswith("!")

    def without(self, document: Any) -> Any:
        """A JSON value with ``NOT_KEPT`` for the secrets that it names: in tables, parameters, lists of Name and Value.

        For documents that machines with different keys compare.
        """
        return _replaced(document, self, _not_kept, _same)

    def values(self, document: Any) -> list[Any]:
        """The texts and numbers that a JSON value has under secret names."""
        found: list[Any] = []
        _replaced(document, self, found.append, _same)
        return found


DEFAULT_NAMES = SecretNames(DEFAULT_PATTERNS)


class Secrets:
    """The secret values of one run. They become more while it goes on: some are known when a step's request is.

    Safe to use from several threads. ``state`` keeps the key of the hashes; without it, they hold for this object only.
    """

    def __init__(self, names: SecretNames | None = None, state: Path | None = None) -> None:
        self.names = names or SecretNames()
        self._state = state
        self._key: bytes | None = None
        self._lock = threading.Lock()
        self._values: frozenset[str] = frozenset()
        self._texts: tuple[str, ...] = ()
        self._bytes: tuple[bytes, ...] = ()

    # ------------------------------------------------------------------------------------------------- learning
    def learn_named(self, values: Mapping[str, Any]) -> None:
        """The values under the names that are secret, of parameters or of a function's arguments."""
        self.learn(value for name, value in values.items() if name in self.names)

    def learn_from(self, document: Any) -> None:
        """The values under secret names in a request: of its environment, its hyperparameters."""
        self.learn(self.names.values(document))

    def learn(self, values: Iterable[Any]) -> None:
        """Look for these from now on: texts and numbers, unless they are too short or mean yes, no or nothing."""
        texts = {value_text(value) for value in values if isinstance(value, str | int | float)}
        found = {text for text in texts if len(text) >= SHORTEST and text.lower() not in _NO_SECRETS}
        found = {text for text in found if not _KEPT.fullmatch(text) and text != NOT_KEPT}
        with self._lock:
            if found <= self._values:
                return
            self._values |= found
            self._texts = tuple({form for value in self._values for form in _forms(value)})
            self._bytes = tuple(text.encode(errors="surrogatepass") for text in self._texts)

    # ------------------------------------------------------------------------------------------------- replacing
    def masked(self, text: str) -> str:
        """The text with ``***`` for each secret in it, and for what is left of one where the text was cut."""
        if not self._texts:
            return text
        text = self._cut_out(text)
        # What a terminal does not show may stand between the characters of a secret, and then is what gives it away.
        plain = _UNSEEN.sub("", text)
        cut = self._cut_out(plain)
        return text if cut == plain else cut

    def _cut_out(self, text: str) -> str:
        return _cut(text, _merged([*_spans(text, self._texts), *_fragments(text, self._texts)]), _shown)

    def masked_problems(self, problems: Iterable[Problem]) -> list[Problem]:
        """Problems as they may be shown."""
        return [Problem(*map(self.masked, (each.where, each.what, each.remedy)), local=each.local) for each in problems]

    def hashed(self, value: Any) -> str:
        """What a record has in place of a value: ``secret:hmac:`` and 16 hex digits of HMAC-SHA256."""
        import hmac

        text = value_text(value)
        if _KEPT.fullmatch(text):
            return text
        return KEPT + hmac.digest(self._secret_key(), text.encode(errors="surrogatepass"), "sha256").hex()[:16]

    def hidden(self, document: Any) -> Any:
        """A JSON value as a record may have it: hashes for what has a secret name, and for secrets in any text."""
        return _replaced(document, self.names, self.hashed, self._hashed_in)

    def hidden_named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The same for a table of names that the user chose, such as parameters."""
        return {
            name: self.hashed(value) if name in self.names else self.hidden(value) for name, value in values.items()
        }

    def restored(self, document: Any, candidates: Iterable[Any]) -> Any:
        """What ``hidden`` was given, as far as the values are among ``candidates`` or known; the hashes of others stay.

        What comes back is secret again.
        """
        if KEPT not in str(document):
            return document
        known = {form for value in (*map(value_text, candidates), *self._values) for form in (value, *_forms(value))}
        by_hash = {self.hashed(value): value for value in known}

        def back(match: re.Match[str]) -> str:
            found = by_hash.get(match[0], match[0])
            self.learn([found])
            return found

        return _replaced(document, SecretNames(), _same, lambda text: _KEPT.sub(back, text))

    def stream(self) -> SecretStream:
        """For output that arrives in pieces."""
        return SecretStream(self)

    def _hashed_in(self, text: str) -> str:
        if _KEPT.fullmatch(text):
            return text
        return _cut(text, _spans(text, self._texts), self.hashed)

    def _secret_key(self) -> bytes:
        with self._lock:
            if self._key is None:
                self._key = _key_of(self._state) if self._state else os.urandom(_KEY_BYTES)
            return self._key

    def unended(self, data: bytes) -> int:
        """Where in the data a secret begins that may end in what comes next; its length where none does."""
        first = len(data)
        for form in self._bytes:
            at = data.find(form[:1], max(0, len(data) - len(form) + 1))
            while 0 <= at < first:
                if form.startswith(data[at:]):
                    first = at
                at = data.find(form[:1], at + 1)
        return first

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where secrets stand in the data: begin and end."""
        return _spans(data, self._bytes)


class SecretStream:
    """Masks output as it arrives: a secret that is spread over two pieces is found, as what may be one is held back."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be passed on."""
        data = self._held + data
        spans = self._secrets.spans(data)
        cut = self._secrets.unended(data)
        for begin, end in spans[::-1]:
            if begin < cut < end:
                cut = begin
        self._held = data[cut:]
        return _cut(data[:cut], [span for span in spans if span[1] <= cut], _shown_bytes)

    def end(self) -> bytes:
        """What was held back: nothing comes any more."""
        data, self._held = self._held, b""
        spans = self._secrets.spans(data)
        last = spans[-1][1] if spans else 0
        begun = last + self._secrets.unended(data[last:])
        if len(data) - begun >= _SHORTEST_FRAGMENT:  # of a program that was ended while it printed one
            spans = [*spans, (begun, len(data))]
        return _cut(data, spans, _shown_bytes)


def is_kept(value: Any) -> bool:
    """Whether that is what a record has in place of a secret, or holds it."""
    return isinstance(value, str) and (KEPT in value or value == NOT_KEPT)


# ------------------------------------------------------------------------------------------------------- pieces
def _forms(value: str) -> set[str]:
    """How programs print a value: as it is, inside JSON, Python or a URL, and one that has lines line by line."""
    import json
    from urllib.parse import quote, quote_plus

    forms = {value, repr(value)[1:-1], quote_plus(value, errors="replace"), quote(value, errors="replace")}
    forms |= {quote(value, safe="", errors="replace")}
    forms |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    if "\n" in value:
        forms |= {line for line in map(str.strip, value.splitlines()) if len(line) >= _SHORTEST_LINE}
    return forms


def _spans(data: AnyStr, forms: Iterable[AnyStr]) -> list[tuple[int, int]]:
    """Where forms stand in the data, those that overlap as one."""
    found: list[tuple[int, int]] = []
    for form in forms:
        at = data.find(form)
        while at >= 0:
            found.append((at, at + len(form)))
            at = data.find(form, at + 1)
    return _merged(found)


def _fragments(text: str, forms: Iterable[str]) -> Iterator[tuple[int, int]]:
    """The beginnings of forms before a cut (the end of the text, an ellipsis), and their ends after one."""
    cuts = [(match.start(), match.end()) for match in re.finditer(r"\.\.\.|$", text)]
    for form in forms:
        for begin, end in cuts:
            at = text.find(form[:_SHORTEST_FRAGMENT], max(0, begin - len(form)), begin)
            while at >= 0 and not form.startswith(text[at:begin]):
                at = text.find(form[:_SHORTEST_FRAGMENT], at + 1, begin)
            if 0 <= at <= begin - _SHORTEST_FRAGMENT:
                yield at, begin
            head = text[end : end + _SHORTEST_FRAGMENT]
            at = form.find(head) if len(head) == _SHORTEST_FRAGMENT else -1
            while at >= 0 and not text.startswith(form[at:], end):
                at = form.find(head, at + 1)
            if at >= 0:
                yield end, end + len(form) - at


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, those that overlap as one."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged


def _cut(data: AnyStr, spans: Iterable[tuple[int, int]], instead: Callable[[AnyStr], AnyStr]) -> AnyStr:
    """The data with something else at the spans."""
    made = data[:0]
    at = 0
    for begin, end in spans:
        made = made + data[at:begin] + instead(data[begin:end])
        at = end
    return made + data[at:]


def _shown(secret: str) -> str:
    return SHOWN


def _shown_bytes(secret: bytes) -> bytes:
    return SHOWN.encode()


def _not_kept(secret: Any) -> str:
    return NOT_KEPT


def _same(text: str) -> str:
    return text


def _replaced(value: Any, names: SecretNames, named: Callable[[Any], Any], text: Callable[[str], str]) -> Any:
    """A JSON value with ``named(value)`` for what a secret name has, and ``text(value)`` for all other texts."""

    def of_table(table: Mapping[str, Any]) -> dict[str, Any]:
        return {key: one(item) if key in names else walk(item) for key, item in table.items()}

    def one(item: Any) -> Any:
        # Expressions and what is not known yet are no values.
        return named(item) if isinstance(item, str | int | float) else walk(item)

    def walk(item: Any) -> Any:
        if isinstance(item, str):
            return text(item)
        if isinstance(item, int | float) and not isinstance(item, bool):
            hidden = text(str(item))
            return item if hidden == str(item) else hidden
        if (items := as_list(item)) is not None:
            return [walk(each) for each in items]
        table = as_object(item)
        if table is None:
            return item
        found = {
            key: of_table(inner) if key in _TABLES and (inner := as_object(each)) is not None else walk(each)
            for key, each in table.items()
        }
        if "Name" in table and table["Name"] in names:  # a parameter of a definition, or one that is given
            found |= {key: one(table[key]) for key in ("Value", "DefaultValue") if key in table}
        return found

    return walk(value)


def _key_of(state: Path) -> bytes:
    """The key of a state directory, made with the first secret. Two runs that begin at once agree on one of them.

    Where it can be neither read nor made, the hashes of this run compare with no others.
    """
    import tempfile

    path = state / _KEY_FILE
    key = os.urandom(_KEY_BYTES)
    with suppress(OSError):
        return path.read_bytes()
    with suppress(OSError):
        state.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=state, prefix=f".{_KEY_FILE}.")  # of mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(key)
            with suppress(FileExistsError):
                os.link(name, path)
        finally:
            Path(name).unlink()
        return path.read_bytes()
    return key
