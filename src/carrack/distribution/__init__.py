"""The client of registries (OCI distribution-spec 1.1): resolve, fetch, push, with authentication, mirrors, retries and resumption.

Plain blocking code for threads. Nothing here knows of images or of what is kept on this machine.
"""
