"""What Docker means by a container: its record, its states, its life, its streams, and what becomes of it across restarts."""
