"""The command `keras-rar`, up to the point where TensorFlow is needed: options, checks of files, errors.

This package never imports `keras_rar` at its top, nor TensorFlow, Keras or NumPy: help, a misspelt option or a missing
file answers at once. `keras_rar.cli` does the work.
"""
