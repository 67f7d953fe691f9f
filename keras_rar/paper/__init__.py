"""What reproducing the paper needs: its data, networks, published numbers and experiments.

May import every other room.
"""

from keras_rar.paper import architectures as networks

__all__ = ["networks"]
