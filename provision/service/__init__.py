"""Find the host, decide, read the secrets, build: one path for the web, TFTP and the command line."""
