"""Gives every bare-metal hypervisor host its own identity at first power-on."""
