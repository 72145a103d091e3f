"""What people typed: small forms, read strictly. Files are never taken.

A field's error is an InvalidInput whose `field` names it (BadField); the page shows it there.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request

from outlast.errors import InvalidInput
from outlast.wire.shapes import BadField

FIELDS_MAX = 300  # as many VMs or hosts as a page can tick, and more
VALUE_MAX = 32_000  # user-data of a VM is the longest
KIND = "application/x-www-form-urlencoded"


class Form:
    """Fields by name; one that is not there is ""."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def __getitem__(self, name: str) -> str:
        return next((value.strip() for key, value in self._pairs if key == name), "")

    def __contains__(self, name: str) -> bool:
        return any(key == name for key, _ in self._pairs)

    def raw(self, name: str) -> str:
        """As it was typed, for passwords."""
        return next((value for key, value in self._pairs if key == name), "")

    def all(self, name: str) -> list[str]:
        return [value.strip() for key, value in self._pairs if key == name and value.strip()]

    def number(self, name: str, default: float) -> float:
        """Raises BadField."""
        if not self[name]:
            return default
        try:
            return float(self[name])
        except ValueError:
            said = f"{name}: {self[name][:40]!r} is no number"
            raise BadField(said, field=name) from None


async def form_of(request: Request) -> Form:
    """Raises InvalidInput for what is no form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if kind != KIND and body:
        raise InvalidInput("this is not a form", hint="load the page again")
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"
        )
    except ValueError:
        raise InvalidInput("the form cannot be read", hint="load the page again") from None
    if any(len(value) > VALUE_MAX for _, value in pairs):
        raise InvalidInput(f"a field is longer than {VALUE_MAX} characters")
    return Form(pairs)
