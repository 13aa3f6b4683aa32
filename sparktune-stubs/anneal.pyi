from sparktune.search.anneal import *
