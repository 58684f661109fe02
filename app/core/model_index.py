"""Models as this service knows them: every reference that was scanned, with its newest scan and its newest report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.core.tables import Scan


class Model(NamedTuple):
    """A reference that was scanned.

    Attributes:
        scans: how many times.
        newest: the newest scan, whatever its state.
        reported: the newest scan with a report; its verdict is the model's, on the contents that it names.
    """

    reference: str
    scans: int
    newest: Scan
    reported: Scan | None


def list_models(session: Session, after: str | None, limit: int) -> list[Model]:
    """Models in the order of their references, from behind `after`."""
    counted = select(Scan.model, func.count()).group_by(Scan.model).order_by(Scan.model).limit(limit)
    counts = dict(session.execute(counted.where(Scan.model > (after or ""))).all())
    newest = _newest(session, counts)
    reported = _newest(session, counts, Scan.report_digest.is_not(None))
    return [Model(model, counts[model], newest[model], reported.get(model)) for model in counts]


def _newest(session: Session, models: Iterable[str], *where: ColumnElement[bool]) -> Mapping[str, Scan]:
    """The newest scan of each model, of those that the conditions leave."""
    rank = func.row_number().over(partition_by=Scan.model, order_by=(Scan.created.desc(), Scan.id.desc()))
    ranked = select(Scan.id, rank.label("rank")).where(Scan.model.in_(list(models)), *where).subquery()
    found = select(Scan).join(ranked, Scan.id == ranked.c.id).where(ranked.c.rank == 1)
    return {scan.model: scan for scan in session.scalars(found)}
