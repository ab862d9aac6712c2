"""The processes that serve: `api` is the HTTP service. Runs from the checkout or the image's work folder."""
