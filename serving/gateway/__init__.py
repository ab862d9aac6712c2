"""DICOM network gateway: receives studies, has the service answer them, and sends the results to the archive."""
