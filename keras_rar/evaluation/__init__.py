"""Measuring a classifier: protocols, `evaluate_robustness`, reports, metrics, the callback `AttributionRobustness`.

May import attacks, explaining, training and the rooms below them in the list of `CONTRIBUTING.md`.
"""
