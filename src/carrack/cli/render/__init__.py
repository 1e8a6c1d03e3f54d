"""What commands print: tables, templates, sizes and durations, progress bars. Nothing here talks to a daemon."""
