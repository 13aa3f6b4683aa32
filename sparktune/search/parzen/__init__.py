"""The parts of ``sparktune.search.tpe``: its model of good and other trials, and how it draws from it."""
