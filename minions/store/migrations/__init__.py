"""The alembic environment of the store: `env.py` and the ordered revisions in `versions`."""
