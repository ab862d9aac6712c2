"""Turns de-identified studies into training data: catalogue, split by patient, shards, balanced sampling."""
