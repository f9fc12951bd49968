"""The store: every record of a batch is decided, whatever Postgres says."""
