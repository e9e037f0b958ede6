//! Event streams with a conditional append, on SQLite and PostgreSQL.
