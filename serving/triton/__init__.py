"""Model repositories for a Triton server."""
