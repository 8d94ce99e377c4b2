"""The server's own network: interfaces, device-bound sockets, neighbours."""
