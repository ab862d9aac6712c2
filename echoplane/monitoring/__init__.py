"""Monitoring of models in service: metrics with bounded labels, the prediction log, drift detection."""
