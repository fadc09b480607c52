"""What Alembic runs before the scripts: our connection, our transaction, the version kept within the schema."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table_schema=context.config.attributes["schema"],
)
context.run_migrations()
