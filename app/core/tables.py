"""The tables. Truth lives here: messages, caches and processes may be lost at any moment.

Times are seconds since 1970 by the database's clock. Digests and tokens are hex; a secret is kept as its SHA-256 only.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

State = Literal["queued", "resolving", "checking", "running", "deciding", "succeeded", "failed", "canceled"]
ENDED: tuple[State, ...] = ("succeeded", "failed", "canceled")
ChunkState = Literal["queued", "running", "done", "failed"]
ChunkKind = Literal["drive", "observe"]
Queue = Literal["people", "schedules"]


class Table(DeclarativeBase):
    """Base of all tables; JSON columns hold plain data."""

    metadata = MetaData(
        naming_convention={
            "ix": "%(column_0_label)s",
            "uq": "%(table_name)s_%(column_0_name)s_once",
            "fk": "%(table_name)s_%(column_0_name)s_of_%(referred_table_name)s",
            "pk": "%(table_name)s_key",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSON, list[str]: JSON, list[Any]: JSON}


class Key(Table):
    """An API key. `hash` is the SHA-256 of the whole key; `prefix` is what lists show of it."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    prefix: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    created: Mapped[float]
    expires: Mapped[float | None]
    revoked: Mapped[float | None]


class Scan(Table):
    """One scan. `version` grows with every change that a client can see: it is the ETag and the event id.

    `model` and `base` are what the caller gave; `subject_pin` and `base_pin` what they were resolved to, once
    (`app.core.registries.Pinned`); `subject_revision` is that of `subject_pin` again, for the gate to look up.
    `verdict` is that of the latest decision; the report is what it is drawn from.
    """

    __tablename__ = "scan"

    id: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[float]
    key_id: Mapped[str] = mapped_column(ForeignKey("api_key.id"))
    queue: Mapped[Queue]
    model: Mapped[str]
    base: Mapped[str | None]
    suite: Mapped[str]
    suite_digest: Mapped[str]
    policy: Mapped[str]
    labels: Mapped[list[str]]
    seed: Mapped[int]
    expected: Mapped[list[Any]]
    scanner_version: Mapped[str]
    dtype: Mapped[str | None]

    state: Mapped[State]
    version: Mapped[int] = mapped_column(default=1)
    phase: Mapped[str] = mapped_column(default="")
    done: Mapped[float] = mapped_column(default=0.0)
    total: Mapped[float] = mapped_column(default=0.0)
    eta_s: Mapped[float | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    started: Mapped[float | None]
    ended: Mapped[float | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]

    subject_pin: Mapped[dict[str, Any] | None]
    base_pin: Mapped[dict[str, Any] | None]
    subject_revision: Mapped[str | None] = mapped_column(index=True)
    subject_digest: Mapped[str | None] = mapped_column(index=True)
    base_digest: Mapped[str | None]
    subject_content: Mapped[str | None] = mapped_column(index=True)
    base_content: Mapped[str | None]

    report_digest: Mapped[str | None] = mapped_column(ForeignKey("report.digest"))
    reused_from: Mapped[str | None]
    verdict: Mapped[str | None]

    __table_args__ = (
        Index("scan_newest", "created", "id"),
        Index("scan_by_state", "state", "created"),
        Index("scan_by_model", "model", "created"),
    )


class Label(Table):
    """A label of a scan: the list of the scan's row again, for filters."""

    __tablename__ = "scan_label"

    scan_id: Mapped[str] = mapped_column(ForeignKey("scan.id", ondelete="CASCADE"), primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True, index=True)


class Chunk(Table):
    """A piece of work that a worker leases: `drive` a scan, or `observe` some requests of it.

    Attributes:
        key: tells chunks of a scan apart; for `observe`, the digest of the request keys.
        body: for `observe`, the requests (`workers.chunks`).
        lease_version: grows with every claim; a commit names the one it was claimed with (fencing).
        lease_until: when the claim ends unless it is renewed.
        attempts: claims so far that did not end in a commit or in a step forward.
        published: when its message was last sent.
    """

    __tablename__ = "chunk"

    id: Mapped[str] = mapped_column(primary_key=True)
    scan_id: Mapped[str] = mapped_column(ForeignKey("scan.id", ondelete="CASCADE"))
    kind: Mapped[ChunkKind]
    key: Mapped[str]
    role: Mapped[str | None]
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    queue: Mapped[Queue]
    state: Mapped[ChunkState]
    attempts: Mapped[int] = mapped_column(default=0)
    lease_version: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[float] = mapped_column(default=0.0)
    worker: Mapped[str | None]
    published: Mapped[float] = mapped_column(default=0.0)
    created: Mapped[float]
    error: Mapped[str | None]

    __table_args__ = (UniqueConstraint("scan_id", "kind", "key"), Index("chunk_by_state", "state", "lease_until"))


class ReportRow(Table):
    """A report: immutable, named by the SHA-256 of its JSON, which lies in the blob store under that name."""

    __tablename__ = "report"

    digest: Mapped[str] = mapped_column(primary_key=True)
    scan_id: Mapped[str]
    created: Mapped[float]
    bytes: Mapped[int]


class Idempotency(Table):
    """What an `Idempotency-Key` was used for, by one API key."""

    __tablename__ = "idempotency"

    key_id: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(primary_key=True)
    body_digest: Mapped[str]
    scan_id: Mapped[str]
    created: Mapped[float]


class PolicyRow(Table):
    """A policy as it was given, YAML."""

    __tablename__ = "policy"

    name: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    changed: Mapped[float]


class Suppression(Table):
    """A finding that shall not count: which, why, who answers for it, until when. None matches any."""

    __tablename__ = "suppression"

    id: Mapped[str] = mapped_column(primary_key=True)
    subject_digest: Mapped[str | None]
    finding_code: Mapped[str]
    trigger: Mapped[str | None]
    reason: Mapped[str]
    owner: Mapped[str]
    created: Mapped[float]
    expires: Mapped[float]
    revoked: Mapped[float | None]


class Redecision(Table):
    """Verdicts that are to be drawn again, since the rules changed or will (`app.core.redeciding`).

    Attributes:
        policy: only of scans under it; None is all.
        due: from when on.
        begun: whether this is the pass under way, of which there is one at most.
        after: id of the last scan that it is through with.
    """

    __tablename__ = "redecision"

    id: Mapped[str] = mapped_column(primary_key=True)
    policy: Mapped[str | None]
    due: Mapped[float] = mapped_column(index=True)
    begun: Mapped[bool] = mapped_column(default=False)
    after: Mapped[str] = mapped_column(default="")


class ShareLink(Table):
    """Whoever knows the token may read one report until it expires."""

    __tablename__ = "share_link"

    id: Mapped[str] = mapped_column(primary_key=True)
    hash: Mapped[str] = mapped_column(unique=True)
    scan_id: Mapped[str] = mapped_column(ForeignKey("scan.id", ondelete="CASCADE"))
    created: Mapped[float]
    created_by: Mapped[str] = mapped_column(ForeignKey("api_key.id"))
    expires: Mapped[float]
    revoked: Mapped[float | None]
    views: Mapped[int] = mapped_column(default=0)


class Audit(Table):
    """Who did what to what, when. Rows are only ever added."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[float]
    actor: Mapped[str]
    action: Mapped[str]
    object: Mapped[str]
    detail: Mapped[dict[str, Any]]


class Observation(Table):
    """One stored observation, for several machines; on one machine they lie in a file of their own."""

    __tablename__ = "observation"

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    used: Mapped[float] = mapped_column(index=True)
