"""The `container` commands and their short forms (`run`, `ps`, `exec`, …): a file per family."""
