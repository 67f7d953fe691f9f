"""Measuring a classifier: protocols, `evaluate_robustness`, reports, metrics, the callback `AttributionRobustness`.

May import every room above it in the list of `docs/contributing.md`: attacks, explaining, training and below.
"""
