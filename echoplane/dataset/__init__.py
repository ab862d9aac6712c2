"""From de-identified studies to what training reads: catalogue, split by patient, shards, balanced sampling."""
