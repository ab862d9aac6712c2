"""Model slots and the sources of their models."""
