"""The OCI runtime: from a runtime-spec to a running process, and another one beside it.

`plan` says what is to be done (pure, frozen steps), `create` and `creation` are the parent's side, `init` what runs in the new
namespaces, `enter` an exec. `room` and the `*steps` furnish the root; `identity`, `program` and `users` decide who runs what;
`cgroups/` holds the limits of both versions; `defaults`, `capabilities` and `seccomp_default` are Docker's defaults as data;
`command/` is carrack-oci. Nothing here is imported after a fork (law 1), and nothing knows of images, networks or the API.
"""
