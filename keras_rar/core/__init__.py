"""The mathematics: quadrature, gradients, sizes, neighborhoods, ascent, saliency, rank metrics, the attack loop.

May import nothing of keras_rar, and never Keras: TensorFlow, NumPy and special functions of SciPy only.
"""
