from sparktune.space.hp import *
