"""Our docstrings end in `Example:` and lines of doctest, as Keras's do.

Google's style has another form.
"""

import textwrap
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the section and indents it."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            text, _, example = obj.docstring.value.partition("\nExample:\n")
            if example:
                example = textwrap.indent(example.strip(), "    ")
                obj.docstring.value = f"{text}\nExamples:\n{example}"
