"""HTTP: two FastAPI applications (boot, operator), their listeners and their limits."""
