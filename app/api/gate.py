"""The gate: the one call that a pipeline makes. It answers 200 whatever it decides, and is closed without a report."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.api.depends import Reader, ServicesOf
from app.api.problems import responses
from app.core.gatekeeping import Answer, Question, ask

router = APIRouter(prefix="/gate", tags=["gate"])

AGE = re.compile(r"(\d{1,5})([mhd])")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}

Named = Annotated[
    str, Query(min_length=1, max_length=1024, description="A reference, or `sha256:` and the digest of the files.")
]


@router.get("", responses=responses())
def gate(
    caller: Reader,
    known: ServicesOf,
    response: Response,
    model: Named,
    base: Named | None = None,
    policy: Annotated[str, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "default",
    max_age: Annotated[
        str | None, Query(pattern=f"^{AGE.pattern}$", description="Stricter than the policy's.", examples=["7d"])
    ] = None,
) -> Answer:
    """Whether a model may be deployed: exactly the files with `subject_digest`, until `expires_at`, and nothing else.

    The reference is resolved now. `state` and `open_scan_id` name a scan of the model that has not ended.
    """
    response.headers["Cache-Control"] = "no-store"
    question = Question(model=model, base=base, policy=policy, max_age=_age(max_age))
    return ask(known.database, known.blobs, known.settings, question, caller.id)


def _age(given: str | None) -> timedelta | None:
    found = AGE.fullmatch(given or "")
    return timedelta(**{UNITS[found[2]]: int(found[1])}) if found else None
