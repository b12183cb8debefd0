"""Alembic's entry: runs migrations on the connection that `trimtab.registry.adapters.database.migrate` opened."""

from alembic import context

from trimtab.registry.adapters.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
