"""A size as a field of a request."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from outlast.errors import InvalidInput
from outlast.wire.sizes import SIZE_MAX, parse_size


def _size(value: object) -> object:
    if isinstance(value, str):
        try:
            return parse_size(value)
        except InvalidInput as trouble:
            raise ValueError(f"{trouble.sentence}; {trouble.hint}") from None
    return value


# Bytes; in JSON a number of bytes or a text like "8MiB".
Size = Annotated[int, BeforeValidator(_size), Field(strict=True, gt=0, le=SIZE_MAX)]
