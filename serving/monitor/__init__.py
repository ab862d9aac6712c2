"""The monitor: watches the prediction log for drift, exports gauges, and turns alerts into approved retraining runs."""
