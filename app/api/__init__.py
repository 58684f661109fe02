"""The HTTP API: routers know HTTP, `app.core` knows the rules."""
