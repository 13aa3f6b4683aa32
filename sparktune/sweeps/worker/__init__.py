"""What runs on a worker: a sweep's trials. It needs only Python."""
