"""`python -m keras_rar`: the command `keras-rar`, which answers faster because it loads TensorFlow only to compute."""

import sys

from keras_rar_cli.command import main

if __name__ == "__main__":
    sys.exit(main())
