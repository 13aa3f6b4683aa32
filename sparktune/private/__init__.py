"""What sparktune uses of other libraries that they do not document: one module per library, and nowhere else.

Such a name may be missing in another version. It is looked for when it is used; without it the feature goes
a slower way, or is left out, and one warning names it. (MLflow's are in ``sparktune.tracking``.)
"""
