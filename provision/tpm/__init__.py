"""TPM 2.0 without a TPM: what a server makes for one, and checks of what one says. Nothing here speaks to a device."""
