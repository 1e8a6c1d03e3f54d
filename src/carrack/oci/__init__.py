"""Pure values of the OCI standards: nothing here opens a file, a socket or a clock."""
