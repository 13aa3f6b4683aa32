"""The parts of ``sparktune.search.gp``: a Gaussian process over mixed, conditional spaces, and its use."""
