"""Saliency maps of a network, and how neutral their baseline is.

May import core, networks, methods and training.
"""
