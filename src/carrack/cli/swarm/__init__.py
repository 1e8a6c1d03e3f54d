"""The commands of a swarm: the cluster, its nodes, services, tasks, secrets, configs and stacks. Thin clients of the API."""
