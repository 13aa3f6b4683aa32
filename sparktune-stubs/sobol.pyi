from sparktune.search.sobol import *
