"""Tar in and out: a fast reader, a confined extractor, a writer, and the compressions that layers come in.

Everything that a worker calls is imported with its module; nothing here imports later (see `compression.preload`).
"""
