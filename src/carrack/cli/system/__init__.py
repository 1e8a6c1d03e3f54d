"""Commands about the daemon itself and about registries: version, info, events, df, prune, login, search."""
