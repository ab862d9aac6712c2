"""Enrolment of edge devices: one small process beside the repository, which gives invited devices certificates.

settings   settings of the process, from the environment
app        its HTTP routes
"""
