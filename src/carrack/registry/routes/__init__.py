"""The endpoints of distribution-spec, one module per noun. Each takes a `Call` that the gate has let through."""
