"""gradwire: PyTorch training as a service, with torch's own API."""
