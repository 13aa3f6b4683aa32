"""Where trials run: the port in ``base``, and one module per backend."""
