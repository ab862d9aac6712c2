"""Evaluates a bundle on a test set: scores, figures with intervals, subgroups, report."""
