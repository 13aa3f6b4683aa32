from sparktune.search.local import *
