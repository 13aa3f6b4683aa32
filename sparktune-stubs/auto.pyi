from sparktune.search.auto import *
