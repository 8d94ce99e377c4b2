"""What outlives a restart: the only user of SQLAlchemy, the sealing of credentials and the audit log."""
