from sparktune.search.rand import *
