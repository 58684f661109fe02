"""Policies: YAML in, YAML and rules out. A change decides again on the reports that are there, and never rescans."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from app.api.depends import Admin, Reader, ServicesOf
from app.api.pages import Cursor, Limit, decode_cursor, encode_cursor, link_next
from app.api.problems import responses
from app.api.schemas import Given, Page, Redrawn
from app.core.deciding import moment
from app.core.own_policies import KeptPolicy, delete_policy, list_policies, put_policy, read_policy
from app.core.redeciding import redecide
from detectors.errors import PolicyError
from detectors.report import Policy

router = APIRouter(prefix="/policies", tags=["policies"])

PolicyName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples=["payments-team"])]
BODY = {
    "requestBody": {
        "required": True,
        "description": "docs/reference/policies.md explains every rule.",
        "content": {"application/yaml": {"schema": {"type": "string"}, "example": "name: payments-team\n"}},
    }
}


class PolicyView(Given):
    """A policy.

    Attributes:
        builtin: whether it comes with Touchstone; nobody can change it then.
        rules: all of them, those that its text leaves out with their defaults.
    """

    name: str
    builtin: bool
    changed: datetime | None
    rules: Policy


class PolicyText(PolicyView):
    """A policy with its text, as it was given."""

    text: str


class PolicyChanged(PolicyText):
    """A policy that was put, and what it did to verdicts."""

    redecided: Redrawn


async def yaml_text(request: Request) -> str:
    """The body as text.

    Raises:
        PolicyError: if it is not UTF-8.
    """
    try:
        return (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyError(f"a policy must be UTF-8 text, got bytes that are not: {error.reason}") from None


@router.get("", responses=responses())
def get_policies(
    caller: Reader, known: ServicesOf, request: Request, response: Response, limit: Limit = 50, cursor: Cursor = None
) -> Page[PolicyView]:
    """All policies in the order of their names."""
    after = decode_cursor(cursor)[1] if cursor else ""
    with known.database.reading() as session:
        found = list_policies(session, after, limit + 1)
    shown = found[:limit]
    following = encode_cursor(0.0, shown[-1].policy.name) if len(found) > limit else None
    link_next(request, response, following)
    return Page(items=[PolicyView(**_fields(one)) for one in shown], next=following)


@router.get("/{name}", responses=responses(404))
def get_policy(caller: Reader, known: ServicesOf, name: PolicyName) -> PolicyText:
    """One policy with its text."""
    with known.database.reading() as session:
        return _text(read_policy(session, name))


@router.put("/{name}", responses=responses(404, 409) | {201: {"model": PolicyChanged}}, openapi_extra=BODY)
def put(
    caller: Admin, known: ServicesOf, name: PolicyName, text: Annotated[str, Depends(yaml_text)], response: Response
) -> PolicyChanged:
    """Keeps a policy, and decides again on every scan that was submitted under it."""
    with known.database.writing() as session:
        response.status_code = 201 if put_policy(session, name, text, caller.id) else 200
        kept = read_policy(session, name)
    drawn = redecide(known.database, known.blobs)
    return PolicyChanged(**_text(kept).model_dump(), redecided=Redrawn(**vars(drawn)))


@router.delete("/{name}", status_code=204, responses=responses(404, 409))
def delete(caller: Admin, known: ServicesOf, name: PolicyName) -> None:
    """Removes a policy that no scan was submitted under."""
    with known.database.writing() as session:
        delete_policy(session, name, caller.id)


def _text(kept: KeptPolicy) -> PolicyText:
    return PolicyText(**_fields(kept), text=kept.text)


def _fields(kept: KeptPolicy) -> dict[str, Any]:
    return {
        "name": kept.policy.name,
        "builtin": kept.builtin,
        "changed": None if kept.changed is None else moment(kept.changed),
        "rules": kept.policy,
    }
