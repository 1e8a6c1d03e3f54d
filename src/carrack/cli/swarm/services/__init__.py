"""The `service` commands."""
