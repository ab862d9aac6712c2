"""Routes, limits, uploads and RFC 9457 problem bodies: the only package that imports FastAPI and Starlette."""
