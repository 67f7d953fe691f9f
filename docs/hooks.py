"""What the pages need beyond Markdown.

Equations without JavaScript, and the pictures of the examples.
"""

import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File


def on_page_markdown(markdown, **_):
    r"""Put MathML for \\(…\\) and \\[…\\]."""

    def block(match):
        return f"<div>{_mathml(match[1].strip(), 'block')}</div>"

    def inline(match):
        # a line that began with <math> would be taken for a block
        return f"<span>{_mathml(match[1], 'inline')}</span>"

    markdown = re.sub(r"\\\[(.+?)\\\]", block, markdown, flags=re.DOTALL)
    return re.sub(r"\\\((.+?)\\\)", inline, markdown)


def _mathml(latex, display):
    """Bars would be stretched to what is beside them, or shrunk."""
    bars = r"<mo>(&#x02016;|&#x0007C;)</mo>"
    bar = r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>'
    return re.sub(bars, bar, convert(latex, display=display))


def on_files(files, config):
    """Add the pictures that the examples wrote."""
    results = Path(config["config_file_path"]).parent / "examples/results"
    for path in sorted(results.rglob("*.png")):
        files.append(
            File.generated(
                config,
                f"pictures/{path.relative_to(results).as_posix()}",
                abs_src_path=str(path),
            )
        )
    return files
