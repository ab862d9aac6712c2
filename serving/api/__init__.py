"""HTTP service: `http` (routes, limits, problem bodies) calls `inference`, which calls `models`."""
