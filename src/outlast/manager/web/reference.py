"""The API as a page for people, made from the very document that programs read.

Rules:
1. All of it comes from the OpenAPI document: nothing is described twice, and no call is left out.
2. A shape is shown once, where calls name it they lead there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Response

from outlast.manager.web.gate import View, page
from outlast.manager.web.render import page as whole

router = APIRouter()
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """type: in words. shape: the name of the shape it is, or is a list of; "" = none."""

    name: str
    type: str
    shape: str
    needed: bool
    about: str


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: str
    about: str
    fields: tuple[tuple[str, Field], ...]  # where it stands: path, query, header
    body: Field | None
    answers: tuple[tuple[str, Field], ...]  # status, what comes


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    about: str
    fields: tuple[Field, ...]


def chapters(document: Json) -> dict[str, list[Call]]:
    """Tag -> its calls, in the order of the document."""
    found: dict[str, list[Call]] = {}
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            for tag in told.get("tags", ["other"]):
                found.setdefault(tag, []).append(_call(path, method, told))
    return found


def shapes(document: Json) -> list[Shape]:
    known = document.get("components", {}).get("schemas", {})
    return [Shape(name, _about(one), tuple(_fields(one))) for name, one in sorted(known.items())]


def _call(path: str, method: str, told: Json) -> Call:
    given = [
        (one["in"], _field(one["name"], one["schema"], needed=one.get("required", False),
                           about=one.get("description", "")))
        for one in told.get("parameters", ())
    ]  # fmt: skip
    body = told.get("requestBody")
    answers = [
        (status, _field("", _content(one), needed=True, about=one.get("description", "")))
        for status, one in told["responses"].items()
    ]
    wanted = _field("", _content(body), needed=body.get("required", False)) if body else None
    about = told.get("description") or told.get("summary", "")
    return Call(method.upper(), path, about, tuple(given), wanted, tuple(answers))


def _fields(shape: Json) -> Iterator[Field]:
    needed = set(shape.get("required", ()))
    for name, one in shape.get("properties", {}).items():
        yield _field(name, one, needed=name in needed, about=_about(one))
    for value in shape.get("enum", ()):
        yield Field(str(value), "a value", "", False, "")


def _field(name: str, schema: Json, *, needed: bool, about: str = "") -> Field:
    words, shape = _type(schema)
    return Field(name, words, shape, needed, " ".join((about or _about(schema)).split()))


def _type(schema: Json) -> tuple[str, str]:
    """In words, and the shape it leads to."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return name, name
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            parts = [_type(one) for one in schema[several]]
            shape = next((shape for _, shape in parts if shape), "")
            return " or ".join(words for words, _ in parts), shape
    if "const" in schema:
        return f'"{schema["const"]}"', ""
    if "enum" in schema:
        return " or ".join(f'"{value}"' for value in schema["enum"]), ""
    kind = schema.get("type", "anything")
    if kind == "array":
        words, shape = _type(schema.get("items", {}))
        return f"list of {words}", shape
    if kind == "object" and isinstance(more := schema.get("additionalProperties"), Mapping):
        words, shape = _type(more)
        return f"{words} by name", shape
    return kind + "".join(_limits(schema)), ""


LIMITS = {
    "minimum": "at least {}", "maximum": "at most {}", "minLength": "{} or more characters",
    "maxLength": "at most {} characters", "maxItems": "at most {}", "default": "else {}",
}  # fmt: skip


def _limits(schema: Json) -> Iterator[str]:
    for name, words in LIMITS.items():
        if schema.get(name) not in (None, ""):
            yield ", " + words.format(schema[name])


def _content(told: Json) -> Json:
    """The schema of a body; nothing is an object without fields."""
    for one in told.get("content", {}).values():
        found: Json = one.get("schema", {})
        return found
    return {"type": "nothing"}


def _about(schema: Json) -> str:
    return str(schema.get("description") or "")


@router.get("/reference")
async def reference(view: Annotated[View, page()]) -> Response:
    """The API of this manager, as it is installed."""
    document = view.request.app.openapi()
    return whole(
        view, "reference.html", chapters=chapters(document), shapes=shapes(document),
        version=document["info"]["version"], address=view.request.app.openapi_url,
    )  # fmt: skip
