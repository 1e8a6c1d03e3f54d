"""The messages: `buildkit.proto` is written by hand, the rest is made of it by `scripts/protobuf`."""
