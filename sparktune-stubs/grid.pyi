from sparktune.search.grid import *
