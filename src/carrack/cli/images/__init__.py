"""The `image` commands and their short forms (`images`, `pull`, `build`, …): a file per family."""
