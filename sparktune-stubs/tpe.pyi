from sparktune.search.tpe import *
