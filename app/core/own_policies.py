"""The policies of this service: YAML that was put into it, beside the built-in ones, which nobody can change.

A change is noted with its transaction, and verdicts are drawn again (`app.core.redeciding`). A policy that a scan was
submitted under cannot be deleted: the scan's verdict would be one without rules.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core.database import clock
from app.core.deciding import policy_named
from app.core.policies import BUILTIN, builtin_policy, dump_policy, parse_policy
from app.core.redeciding import note
from app.core.render.visible import visible
from app.core.scans import audit
from app.core.tables import PolicyRow, Scan
from detectors.errors import Conflict, NotFound, PolicyError
from detectors.report import Policy


@dataclass(frozen=True)
class KeptPolicy:
    """A policy as this service has it.

    Attributes:
        text: YAML, as it was given.
        changed: seconds since 1970; None for a built-in one.
    """

    policy: Policy
    text: str
    changed: float | None

    @property
    def builtin(self) -> bool:
        """Whether it comes with Touchstone."""
        return self.changed is None


def put_policy(session: Session, name: str, text: str, actor: str) -> bool:
    """Keeps a policy under its name, in place of the one before; whether there was none before.

    Raises:
        PolicyError: if it is no policy, or has another name than it is put under.
        Conflict: if the name is that of a built-in policy.
    """
    if name in BUILTIN:
        raise Conflict(f"the policy `{name}` comes with Touchstone and cannot be changed; put yours under another name")
    given = parse_policy(text).name
    if given != name:
        raise PolicyError(f"the policy's `name` must be the one it is put under, `{visible(name, 100)}`, got `{given}`")
    created = _write(session, name, text)
    note(session, policy=name)
    audit(session, actor, "policy.put", name, {"sha256": hashlib.sha256(text.encode()).hexdigest(), "created": created})
    return created


def _write(session: Session, name: str, text: str) -> bool:
    """One UPDATE where there is one; else an INSERT, which another's may precede."""
    values = {"text": text, "changed": clock()}
    changed = update(PolicyRow).where(PolicyRow.name == name).values(**values).returning(PolicyRow.name)
    if session.execute(changed).one_or_none():
        return False
    try:
        with session.begin_nested():
            session.add(PolicyRow(name=name, text=text, changed=session.scalar(select(clock()))))
    except IntegrityError:
        session.execute(changed)
        return False
    return True


def read_policy(session: Session, name: str) -> KeptPolicy:
    """A policy by its name.

    Raises:
        NotFound: if there is none of that name.
    """
    row = session.get(PolicyRow, name)
    if row is not None:
        return KeptPolicy(policy_named(session, name), row.text, row.changed)
    if name not in BUILTIN:
        raise NotFound(f"there is no policy `{visible(name, 100)}`; GET /v1/policies lists them")
    policy = builtin_policy(name)
    return KeptPolicy(policy, dump_policy(policy), None)


def list_policies(session: Session, after: str, limit: int) -> list[KeptPolicy]:
    """Policies in the order of their names, from behind `after`."""
    names = sorted({*session.scalars(select(PolicyRow.name)), *BUILTIN})  # databases sort in other orders than Python
    return [read_policy(session, name) for name in [name for name in names if name > after][:limit]]


def delete_policy(session: Session, name: str, actor: str) -> None:
    """Removes a policy that no scan was submitted under.

    Raises:
        NotFound: if there is none of that name.
        Conflict: if a scan was submitted under it, or it is a built-in one.
    """
    if read_policy(session, name).builtin:
        raise Conflict(f"the policy `{name}` comes with Touchstone and cannot be deleted")
    used = session.scalar(select(Scan.id).where(Scan.policy == name).limit(1))
    if used is not None:
        raise Conflict(
            f"the policy `{name}` is the one of scan {used}, whose verdict would be one without rules; change the "
            "policy instead, or leave it unused"
        )
    session.delete(session.get_one(PolicyRow, name))
    audit(session, actor, "policy.delete", name, {})
