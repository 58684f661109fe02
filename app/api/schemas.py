"""What goes over the wire in more than one place."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")

Id = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", examples=["4f5c2a7be0c14c0f9a3d5a1be2f0c7d1"])]
"""The id of a row in an address."""


class Sent(BaseModel):
    """Base of every body that a caller sends: a field that is not known is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Given(BaseModel):
    """Base of every body that is given out."""

    model_config = ConfigDict(frozen=True)


class Page(Given, Generic[T]):
    """One page of a list.

    Attributes:
        next: cursor of the following page, also as a `Link` header; null on the last one.
    """

    items: list[T]
    next: str | None = None


class Redrawn(Given):
    """What a change of rules did to verdicts, so far.

    Attributes:
        scans: how many were decided on again.
        changed: how many of them have another verdict now.
        pending: whether there are more, which the service goes on with. The gate does not wait for them.
    """

    scans: int
    changed: int
    pending: bool


class FieldProblem(Given):
    """What is wrong with one field of a request."""

    field: str = Field(examples=["body.suite"])
    problem: str = Field(examples=["Field required"])


class Problem(Given):
    """A problem document (RFC 9457).

    Attributes:
        type: a URN that ends in the code.
        code: `docs/reference/errors.md` lists them all.
        detail: what was given, what was wanted, what to do.
        errors: the fields that are wrong, for 422.
        request_id: what the service's log calls this request.
    """

    type: str = Field(examples=["urn:touchstone:error:TS-ERR-604"])
    title: str = Field(examples=["There is nothing of that name."])
    status: int = Field(examples=[404])
    code: str = Field(examples=["TS-ERR-604"])
    detail: str = Field(examples=["there is no scan `…`; GET /v1/scans lists them"])
    errors: list[FieldProblem] | None = None
    request_id: str | None = None
