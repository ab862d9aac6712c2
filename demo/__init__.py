"""End-to-end demo on one machine, run by `make demo`."""
