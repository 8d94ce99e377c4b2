"""The virtual laboratory: LANs, machines with real firmware, and captures of what crossed a wire."""
