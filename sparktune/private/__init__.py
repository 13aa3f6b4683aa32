"""Undocumented parts of other libraries that sparktune uses: one module per library, and nowhere else.

Such a name may be missing in another version. It is looked up when it is used; without it the feature is
slower, or is left out, and one warning names it. (MLflow's are in ``sparktune.tracking``.)
"""
