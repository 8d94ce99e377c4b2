"""Built images on trial: they boot, try the use cases of a hypervisor, and tell what they opened."""
