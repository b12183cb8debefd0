"""The registry's tables"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "commands",
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("command_id", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("by", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("loop", "command_id", name=op.f("pk_commands")),
    )
    op.create_table(
        "deployments",
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("effective_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("champion", sa.BigInteger(), nullable=True),
        sa.Column("shadows", sa.JSON(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("loop", "sequence", name=op.f("pk_deployments")),
    )
    op.create_table(
        "loops",
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("declared_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("declared_by", sa.Text(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("loop", name=op.f("pk_loops")),
    )
    op.create_table(
        "performance",
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("loop", "version", name=op.f("pk_performance")),
    )
    op.create_table(
        "positions",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.BigInteger(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", name=op.f("pk_positions")),
    )
    op.create_table(
        "requests",
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=True),
        sa.Column("cause", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("champion_version", sa.BigInteger(), nullable=True),
        sa.Column("loop_version", sa.BigInteger(), nullable=True),
        sa.Column("failed_reason", sa.Text(), nullable=True),
        sa.Column("failed_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("loop", "request_id", name=op.f("pk_requests")),
    )
    op.create_table(
        "trainings",
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("onnx_digest", sa.Text(), nullable=True),
        sa.Column("skops_digest", sa.Text(), nullable=False),
        sa.Column("recipe_digest", sa.Text(), nullable=False),
        sa.Column("features_digest", sa.Text(), nullable=False),
        sa.Column("classes", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("parity", sa.JSON(), nullable=False),
        sa.Column("dataset_digest", sa.Text(), nullable=False),
        sa.Column("dataset_blob", sa.Text(), nullable=False),
        sa.Column("dataset_rows", sa.BigInteger(), nullable=False),
        sa.Column("dataset_positives", sa.BigInteger(), nullable=True),
        sa.Column("dataset_first_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("dataset_last_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("dataset_cluster_id", sa.Text(), nullable=False),
        sa.Column("gate_rule", sa.Text(), nullable=False),
        sa.Column("gate_metric", sa.Text(), nullable=False),
        sa.Column("gate_margin", sa.Double(), nullable=False),
        sa.Column("gate_confidence", sa.Double(), nullable=False),
        sa.Column("gate_verdict", sa.Text(), nullable=False),
        sa.Column("fits", sa.BigInteger(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("lock_digest", sa.Text(), nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("wall_s", sa.Double(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("loop", "request_id", name=op.f("pk_trainings")),
    )
    op.create_index(op.f("ix_trainings_digest"), "trainings", ["digest"], unique=False)
    op.create_table(
        "versions",
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("loop", "version", name=op.f("pk_versions")),
    )
    op.create_index(op.f("ix_versions_digest"), "versions", ["digest"], unique=False)
    op.create_table(
        "comparisons",
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("against", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("challenger", sa.Double(), nullable=False),
        sa.Column("other", sa.Double(), nullable=False),
        sa.Column("difference", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=False),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("blocks", sa.BigInteger(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["loop", "request_id"],
            ["trainings.loop", "trainings.request_id"],
            name=op.f("fk_comparisons_loop_trainings"),
        ),
        sa.PrimaryKeyConstraint("loop", "request_id", "against", name=op.f("pk_comparisons")),
    )
    op.create_table(
        "dataset_ranges",
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.BigInteger(), nullable=False),
        sa.Column("topic_id", sa.Text(), nullable=False),
        sa.Column("first_offset", sa.BigInteger(), nullable=False),
        sa.Column("end_offset", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["loop", "request_id"],
            ["trainings.loop", "trainings.request_id"],
            name=op.f("fk_dataset_ranges_loop_trainings"),
        ),
        sa.PrimaryKeyConstraint("loop", "request_id", "topic", "partition", name=op.f("pk_dataset_ranges")),
    )
    op.create_table(
        "metrics",
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["loop", "request_id"], ["trainings.loop", "trainings.request_id"], name=op.f("fk_metrics_loop_trainings")
        ),
        sa.PrimaryKeyConstraint("loop", "request_id", "name", name=op.f("pk_metrics")),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("metrics")
    op.drop_table("dataset_ranges")
    op.drop_table("comparisons")
    op.drop_index(op.f("ix_versions_digest"), table_name="versions")
    op.drop_table("versions")
    op.drop_index(op.f("ix_trainings_digest"), table_name="trainings")
    op.drop_table("trainings")
    op.drop_table("requests")
    op.drop_table("positions")
    op.drop_table("performance")
    op.drop_table("loops")
    op.drop_table("deployments")
    op.drop_table("commands")
