"""The embedded name server of user-defined networks: what Docker answers at 127.0.0.11."""
