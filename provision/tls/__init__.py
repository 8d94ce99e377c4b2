"""The TLS side of the operators' API: certificates that are read, made and renewed."""
