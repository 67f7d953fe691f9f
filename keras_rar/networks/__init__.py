"""How a Keras classifier is seen: its inputs and outputs, logits, loss, stem, activations, twins and export.

May import core.
"""
