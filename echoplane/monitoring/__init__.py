"""Watching models in service: metric names and their bounded labels."""
