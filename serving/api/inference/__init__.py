"""Reads a file, chooses its task, and answers it with the model of that task."""
