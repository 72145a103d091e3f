"""How an answer for programs is written: JSON, or YAML with the same keys and values (pure).

Rules:
1. YAML is written so that readers of its versions 1.1 and 1.2 take it for the same: strings are
   quoted as in JSON, and so is every key that is not plainly a word.
2. What is printed without an end is one document after the other: a line of JSON each, or YAML
   that begins with ---.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextvars import ContextVar
from enum import StrEnum


class Form(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


FORM = ContextVar("FORM", default=Form.JSON)  # of answers for programs
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NO_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def whole(value: object) -> str:
    """An answer, readable."""
    if FORM.get() is Form.YAML:
        return "\n".join(_lines(value))
    return json.dumps(value, indent=2)


def one_of_many(value: object) -> str:
    """An answer that others follow."""
    if FORM.get() is Form.YAML:
        return "---\n" + "\n".join(_lines(value))
    return json.dumps(value, separators=(",", ":"))


def _lines(value: object, indent: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _entry(f"{indent}{_key(str(key))}:", item, indent + "  ")
    elif isinstance(value, (list, tuple)) and value:
        for item in value:
            inner = list(_lines(item, indent + "  "))
            yield f"{indent}- {inner[0].lstrip()}"
            yield from inner[1:]
    else:
        yield indent + _scalar(value)


def _entry(head: str, item: object, indent: str) -> Iterator[str]:
    if isinstance(item, (dict, list, tuple)) and item:
        yield head
        yield from _lines(item, indent)
    else:
        yield f"{head} {_scalar(item)}"


def _key(text: str) -> str:
    plain = _WORD.fullmatch(text) and text.lower() not in _NO_WORDS
    return text if plain else _scalar(text)


def _scalar(value: object) -> str:
    said = json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and "e" in said and "." not in said:
        return said.replace("e", ".0e")  # 1e+16 is a word for readers of YAML 1.1
    # what YAML does not let stand as it is, within quotes either
    return re.sub(r"[\x7f-\x9f\ud800-\udfff\u2028\u2029\ufeff]", _escaped, said)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
