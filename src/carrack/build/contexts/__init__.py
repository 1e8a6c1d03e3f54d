"""Build contexts: received as a tar, fetched from afar, or kept up to date with a client's folder."""
