"""Contexts: named daemons, kept in the folder of the user's settings."""
