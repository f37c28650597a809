"""Whether identity policies allow a request: an evaluator of IAM's policy language. No I/O.

    an explicit Deny that applies > an Allow that applies > nothing applies, which denies

Resource policies, boundaries and service control policies are not looked at: a caller who has one asks for each.
Source: IAM user guide, "Policy evaluation logic", "IAM JSON policy elements: Condition operators", "Creating a
Condition That Tests Multiple Key Values". Where this knows less than IAM: a policy variable (``${aws:username}``) has
no value here and equals nothing, and operators on dates, IP addresses and binaries are errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from local_runner.errors import LocalRunnerError

Context = Mapping[str, str | Sequence[str]]
"""Condition keys (in any case) and what the request has under them."""


class PolicyError(LocalRunnerError):
    """A policy that cannot be evaluated: it is not IAM's language, or more of it than is known here."""


@dataclass(frozen=True)
class Decision:
    """``statement`` is the Sid of the one that decided (its place where it has none), None where none applies."""

    allowed: bool
    statement: str | None
    reason: str


def allowed(
    policies: Iterable[Mapping[str, Any]], action: str, resource: str, context: Context | None = None
) -> Decision:
    """What these policies together say of one request. ``resource`` is an ARN, or ``*`` for an action that knows none.

    Raises PolicyError.
    """
    keys = {key.lower(): value for key, value in (context or {}).items()}
    by: str | None = None
    for number, policy in enumerate(policies, 1):
        for place, statement in enumerate(_listed(policy.get("Statement"), dict[str, Any]), 1):
            effect = _checked(statement)
            if effect == "Allow" and by is not None:
                continue  # one is enough; only a Deny can change it
            if _applies(statement, action, resource, keys):
                name = str(statement.get("Sid") or f"statement {place} of policy {number}")
                if effect == "Deny":
                    return Decision(False, name, f"{name} denies {action} on {resource}")
                by = name
    if by is None:
        return Decision(False, None, f"no statement allows {action} on {resource}")
    return Decision(True, by, f"{by} allows {action} on {resource}")


# -------------------------------------------------------------------------------------------------- statements
_ELEMENTS = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})


def _checked(statement: Mapping[str, Any]) -> str:
    """The effect of a statement. Raises PolicyError where it is none that an identity policy may have."""
    if unknown := statement.keys() - _ELEMENTS:
        raise PolicyError(f"{_named(statement)} has {', '.join(sorted(unknown))}, which no identity policy has.")
    for element in ("Action", "Resource"):
        if (element in statement) == (f"Not{element}" in statement):
            raise PolicyError(f"{_named(statement)} has to have one of {element} and Not{element}.")
    if statement.get("Effect") not in ("Allow", "Deny"):
        raise PolicyError(f"The Effect of {_named(statement)} is neither Allow nor Deny.")
    for name in statement.get("Condition", {}):
        _operator(name)
    return str(statement["Effect"])


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    return (
        _is_meant(statement, "Action", action, re.IGNORECASE)
        and _is_meant(statement, "Resource", resource)
        and all(
            _holds(operator, context.get(key.lower()), _listed(values, str))
            for operator, tests in statement.get("Condition", {}).items()
            for key, values in tests.items()
        )
    )


def _is_meant(statement: Mapping[str, Any], element: str, value: str, flags: int = 0) -> bool:
    wanted = statement.get(element)
    patterns = _listed(statement[f"Not{element}"] if wanted is None else wanted, str)
    return any(_like(value, pattern, flags) for pattern in patterns) == (wanted is not None)


def _named(statement: Mapping[str, Any]) -> str:
    return f"The statement {statement.get('Sid') or dict(statement)}"


# -------------------------------------------------------------------------------------------------- conditions
def _holds(name: str, found: str | Sequence[str] | None, wanted: Sequence[str]) -> bool:
    """Whether a condition is true of what the request has under its key (None: it has no such key)."""
    values = [found] if isinstance(found, str) else list(found or ())
    each, base, if_exists = _operator(name)
    if base == "Null":
        return any(value.lower() == str(not values).lower() for value in wanted)
    if not values and if_exists:
        return True
    compare, negated = _OPERATORS[base]

    def is_true(value: str) -> bool:
        return any(not _VARIABLE.search(one) and compare(value, one) for one in wanted) != negated

    match each:
        case "ForAllValues":
            return all(map(is_true, values))
        case "ForAnyValue":
            return any(map(is_true, values))
        case _:  # a negated one is true of a key that is not there, and of several values if it is of each
            return all(map(is_true, values)) if negated else any(map(is_true, values))


@lru_cache
def _operator(name: str) -> tuple[str, str, bool]:
    """``ForAnyValue:StringLikeIfExists`` -> (ForAnyValue, StringLike, True). Raises PolicyError."""
    each, _, rest = name.rpartition(":")
    base = rest.removesuffix("IfExists")
    if (base not in _OPERATORS and rest != "Null") or each not in ("", "ForAllValues", "ForAnyValue"):
        known = ", ".join([*_OPERATORS, "Null"])
        raise PolicyError(f"The condition operator '{name}' cannot be evaluated here. Those that can: {known}.")
    return each, base, base != rest


def _number(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def compared(value: str, wanted: str) -> bool:
        try:
            return compare(float(value), float(wanted))
        except ValueError:
            return False

    return compared


def _arn_like(value: str, pattern: str) -> bool:
    """The six parts of an ARN are compared one by one: a wildcard does not go past a colon."""
    parts, patterns = value.split(":", 5), pattern.split(":", 5)
    return len(parts) == len(patterns) and all(map(_like, parts, patterns))


def _like(value: str, pattern: str, flags: int = 0) -> bool:
    return pattern == "*" or _glob(pattern, flags).fullmatch(value) is not None


@lru_cache(4096)
def _glob(pattern: str, flags: int) -> re.Pattern[str]:
    """``*`` is any characters, ``?`` any one. Each part between wildcards is taken where it comes first, so that no
    pattern takes long.
    """
    if _VARIABLE.search(pattern):
        return re.compile(r"(?!)")  # matches nothing
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in pattern.split("*"))
    between = "".join(f"(?>.*?{part})" for part in rest[:-1])
    return re.compile(first + (f"{between}.*{rest[-1]}" if rest else ""), flags | re.DOTALL)


_VARIABLE = re.compile(r"\$\{")

_OPERATORS: Mapping[str, tuple[Callable[[str, str], bool], bool]] = {
    "StringEquals": (lambda value, wanted: value == wanted, False),
    "StringNotEquals": (lambda value, wanted: value == wanted, True),
    "StringEqualsIgnoreCase": (lambda value, wanted: value.lower() == wanted.lower(), False),
    "StringNotEqualsIgnoreCase": (lambda value, wanted: value.lower() == wanted.lower(), True),
    "StringLike": (_like, False),
    "StringNotLike": (_like, True),
    "ArnEquals": (_arn_like, False),
    "ArnLike": (_arn_like, False),
    "ArnNotEquals": (_arn_like, True),
    "ArnNotLike": (_arn_like, True),
    "Bool": (lambda value, wanted: value.lower() == wanted.lower(), False),
    "NumericEquals": (_number(lambda value, wanted: value == wanted), False),
    "NumericNotEquals": (_number(lambda value, wanted: value == wanted), True),
    "NumericLessThan": (_number(lambda value, wanted: value < wanted), False),
    "NumericLessThanEquals": (_number(lambda value, wanted: value <= wanted), False),
    "NumericGreaterThan": (_number(lambda value, wanted: value > wanted), False),
    "NumericGreaterThanEquals": (_number(lambda value, wanted: value >= wanted), False),
}
"""Operator -> the comparison of one value with one of the policy, and whether the operator is its negation."""


def _listed(value: Any, kind: type[Any]) -> list[Any]:
    """One value or several, as a list. Booleans and numbers of a condition become texts."""
    items = cast("list[Any]", value) if isinstance(value, list | tuple) else [value]
    return [str(item).lower() if kind is str and isinstance(item, bool) else kind(item) for item in items]
