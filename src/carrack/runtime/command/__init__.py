"""`carrack-oci`: the runtime behind runc's command line, for podman, containerd and the OCI test suites."""
