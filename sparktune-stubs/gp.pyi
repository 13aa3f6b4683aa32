from sparktune.search.gp import *
