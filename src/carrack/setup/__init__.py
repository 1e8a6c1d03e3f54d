"""What is done once on a machine: certificates, installing and removing, moving over from Docker. Programs of their own."""
