"""The methods, one objective each: the paper's, those that compare maps, those without attributions.

May import core and networks.
"""
