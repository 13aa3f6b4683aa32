from sparktune.trials.spark import *
