"""Inference on many studies: groups files into studies, gives an answer or a reason for each, and writes tables."""
