"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Makes them."""
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=True),
        sa.Column("revoked", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("api_key_key")),
        sa.UniqueConstraint("hash", name=op.f("api_key_hash_once")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("object", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_key")),
    )
    op.create_table(
        "idempotency",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("body_digest", sa.String(), nullable=False),
        sa.Column("scan_id", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "token", name=op.f("idempotency_key")),
    )
    op.create_table(
        "observation",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("used", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("observation_key")),
    )
    op.create_index(op.f("observation_used"), "observation", ["used"], unique=False)
    op.create_table(
        "policy",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("changed", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("policy_key")),
    )
    op.create_table(
        "redecision",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("policy", sa.String(), nullable=True),
        sa.Column("due", sa.Double(), nullable=False),
        sa.Column("begun", sa.Boolean(), nullable=False),
        sa.Column("after", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("redecision_key")),
    )
    op.create_index(op.f("redecision_due"), "redecision", ["due"], unique=False)
    op.create_table(
        "report",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("scan_id", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("report_key")),
    )
    op.create_table(
        "suppression",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("subject_digest", sa.String(), nullable=True),
        sa.Column("finding_code", sa.String(), nullable=False),
        sa.Column("trigger", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("revoked", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("suppression_key")),
    )
    op.create_table(
        "scan",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("queue", sa.Enum("people", "schedules", native_enum=False), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("base", sa.String(), nullable=True),
        sa.Column("suite", sa.String(), nullable=False),
        sa.Column("suite_digest", sa.String(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("expected", sa.JSON(), nullable=False),
        sa.Column("scanner_version", sa.String(), nullable=False),
        sa.Column("dtype", sa.String(), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "resolving",
                "checking",
                "running",
                "deciding",
                "succeeded",
                "failed",
                "canceled",
                native_enum=False,
            ),
            nullable=False,
        ),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("done", sa.Double(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.Column("eta_s", sa.Double(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("started", sa.Double(), nullable=True),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("subject_pin", sa.JSON(), nullable=True),
        sa.Column("base_pin", sa.JSON(), nullable=True),
        sa.Column("subject_revision", sa.String(), nullable=True),
        sa.Column("subject_digest", sa.String(), nullable=True),
        sa.Column("base_digest", sa.String(), nullable=True),
        sa.Column("subject_content", sa.String(), nullable=True),
        sa.Column("base_content", sa.String(), nullable=True),
        sa.Column("report_digest", sa.String(), nullable=True),
        sa.Column("reused_from", sa.String(), nullable=True),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["key_id"], ["api_key.id"], name=op.f("scan_key_id_of_api_key")),
        sa.ForeignKeyConstraint(["report_digest"], ["report.digest"], name=op.f("scan_report_digest_of_report")),
        sa.PrimaryKeyConstraint("id", name=op.f("scan_key")),
    )
    op.create_index("scan_by_model", "scan", ["model", "created"], unique=False)
    op.create_index("scan_by_state", "scan", ["state", "created"], unique=False)
    op.create_index("scan_newest", "scan", ["created", "id"], unique=False)
    op.create_index(op.f("scan_subject_content"), "scan", ["subject_content"], unique=False)
    op.create_index(op.f("scan_subject_digest"), "scan", ["subject_digest"], unique=False)
    op.create_index(op.f("scan_subject_revision"), "scan", ["subject_revision"], unique=False)
    op.create_table(
        "chunk",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("scan_id", sa.String(), nullable=False),
        sa.Column("kind", sa.Enum("drive", "observe", native_enum=False), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("queue", sa.Enum("people", "schedules", native_enum=False), nullable=False),
        sa.Column("state", sa.Enum("queued", "running", "done", "failed", native_enum=False), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_version", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("published", sa.Double(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], name=op.f("chunk_scan_id_of_scan"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("chunk_key")),
        sa.UniqueConstraint("scan_id", "kind", "key", name=op.f("chunk_scan_id_once")),
    )
    op.create_index("chunk_by_state", "chunk", ["state", "lease_until"], unique=False)
    op.create_table(
        "scan_label",
        sa.Column("scan_id", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], name=op.f("scan_label_scan_id_of_scan"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "label", name=op.f("scan_label_key")),
    )
    op.create_index(op.f("scan_label_label"), "scan_label", ["label"], unique=False)
    op.create_table(
        "share_link",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("scan_id", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("revoked", sa.Double(), nullable=True),
        sa.Column("views", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["api_key.id"], name=op.f("share_link_created_by_of_api_key")),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], name=op.f("share_link_scan_id_of_scan"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("share_link_key")),
        sa.UniqueConstraint("hash", name=op.f("share_link_hash_once")),
    )


def downgrade() -> None:
    """Nothing comes before them.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("this is the first version; to begin anew, make an empty database")
