"""The `stack` commands: a Compose file (version 3) as services, networks, secrets and configs of a swarm."""
