"""Files from afar: web servers and Git repositories."""
