"""`carrack doctor`: whether this machine has what carrackd needs, tried rather than looked up, and what to do about what it lacks.

A program of its own, `python -m carrack.doctor`: it needs no daemon, changes nothing, and leaves nothing behind.
"""
