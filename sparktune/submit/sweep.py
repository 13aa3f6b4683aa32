"""For spark-submit, which runs Python files: ``spark-submit ... "$(sparktune sweep --script)" sweep.yml``."""

import sys

from sparktune.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
