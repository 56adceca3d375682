"""The views `answers` and `batch_results` for programs of others.

This revision is empty: `migrations/env.py` creates the views once a database is at the newest
revision. See `qacli.db.views`.
"""

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
