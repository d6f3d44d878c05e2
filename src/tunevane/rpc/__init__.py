"""Channel, server, errors to status and back, moving blobs."""
