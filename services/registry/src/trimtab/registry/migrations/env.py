"""Alembic's entry: runs migrations on the connection that `trimtab.registry.database.migrate` opened."""

from alembic import context

from trimtab.registry.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
