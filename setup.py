import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "keras_rar/__init__.py").read_text("utf-8"))[1]
PLOT = ["matplotlib>=3.8"]
# tensorflow-datasets imports importlib_resources without requiring it.
DATA = ["tensorflow-datasets>=4.9", "importlib_resources", "pillow>=10"]
DOCS = ["latex2mathml>=3.77", "mkdocs-material>=9.5", "mkdocstrings[python]>=0.30"]

setup(
    name="keras_rar",
    version=VERSION,
    description="Robust attribution for Keras 3 classifiers: explanations that survive an attack.",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0 AND MIT",  # MIT is the licence of the images in keras_rar/paper/data
    license_files=["LICENSE", "keras_rar/paper/data/LICENSE"],
    packages=find_packages(include=["keras_rar", "keras_rar.*", "keras_rar_cli"]),
    package_dir={"": "."},  # so that an editable install is one path, which type checkers follow
    package_data={"keras_rar": ["py.typed", "*.pyi"], "keras_rar.paper": ["data/*.npz"]},
    python_requires=">=3.10",
    install_requires=[
        "tensorflow>=2.18",
        "keras>=3.9",
        "numpy>=1.26",
        "scipy>=1.11",
        "typing_extensions>=4.1; python_version < '3.11'",
    ],
    extras_require={
        "data": DATA,
        "plot": PLOT,
        "compare": ["adversarial-robustness-toolbox>=1.20"],  # what a slow test measures our PGD against
        "docs": DOCS,
        "dev": [
            *PLOT,
            *DATA,
            *DOCS,
            "build>=1.2",
            "mypy>=1.11",
            "pre-commit>=3.8",
            "pytest>=8",
            "pytest-cov>=5",
            "pytest-xdist>=3.6",
            "ruff>=0.6",
            "scikit-learn>=1.3",  # whose data examples/table.py and examples/several_inputs.py take
            "setuptools>=77.0.3",  # as in pyproject.toml; tests build the package with it
        ],
    },
    entry_points={"console_scripts": ["keras-rar = keras_rar_cli.command:main"]},
    keywords=["keras", "tensorflow", "explainability", "integrated gradients", "adversarial robustness"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
