"""The mathematics: TensorFlow and NumPy only, never Keras."""
