"""The registry server: OCI distribution-spec 1.1 over one store that many stateless servers may share.

Blobs, uploads, manifests, tags, referrers, authorisation, collection and scrub; `storage/` keeps the bytes. It imports http,
oci and errors, and nothing of the engine: `python -m carrack.registry serve` needs no daemon.
"""
