"""Building images: today the Dockerfile front end (`dockerfile/`), pure; the solver that runs its plan does not exist yet."""
