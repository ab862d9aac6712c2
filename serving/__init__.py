"""Serving processes: `api` is the HTTP service. It runs from the checkout or from the image's working directory."""
