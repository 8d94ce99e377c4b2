"""The running processes: which sockets are open, and what answers on them."""
