"""The Dockerfile front end: text, syntax tree, instructions, stages. Pure."""
