"""The published numbers: Chen et al. 2019, tables 1 and 2."""

METHODS = {
    "natural": "NATURAL",
    "madry": "Madry",
    "ig_norm": "IG-NORM",
    "ig_sum_norm": "IG-SUM-NORM",
    "igr": "IGR",
    "ig_topk": "IG-TOP-K",
}
"""Names of the methods for people, by their names in `wrap`; the last two methods are not in the paper."""
PUBLISHED = {
    "mnist": {
        "natural": (99.17, 0.00, 46.61, 0.1758),
        "madry": (98.40, 92.47, 62.56, 0.2422),
        "ig_norm": (98.74, 81.43, 71.36, 0.2841),
        "ig_sum_norm": (98.34, 88.17, 72.45, 0.3111),
    },
    "fashion_mnist": {
        "natural": (90.86, 0.01, 39.01, 0.4610),
        "madry": (85.73, 73.01, 46.12, 0.6251),
        "ig_norm": (85.13, 65.95, 59.22, 0.6171),
        "ig_sum_norm": (85.44, 70.26, 72.08, 0.6747),
    },
    "gtsrb": {
        "natural": (98.57, 21.05, 54.16, 0.6790),
        "madry": (97.59, 83.24, 68.85, 0.7520),
        "ig_norm": (97.02, 75.24, 74.81, 0.7555),
        "ig_sum_norm": (95.68, 77.12, 74.04, 0.7684),
    },
    "oxford_flower17": {
        "natural": (86.76, 0.00, 8.12, 0.4978),
        "madry": (83.82, 41.91, 55.87, 0.7784),
        "ig_norm": (85.29, 24.26, 64.68, 0.7591),
        "ig_sum_norm": (82.35, 47.06, 66.33, 0.7974),
    },
}
"""Natural accuracy, adversarial accuracy, top-k intersection (in %), Kendall's tau, by data set and method."""
