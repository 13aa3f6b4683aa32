"""One picture a module: from the table of trials to a figure's description, as pure functions."""
