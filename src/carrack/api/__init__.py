"""The Engine API: one module per noun, the router, the versions, and the one place where kinds of failure become statuses."""
