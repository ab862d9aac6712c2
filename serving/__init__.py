"""The HTTP service: one FastAPI app in one BentoML service. Runs from the checkout or the image's work folder."""
