"""The trail's schema, a version a script, run by Alembic as the database's owner."""
