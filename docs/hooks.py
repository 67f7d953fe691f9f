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
        return f"<div>{convert(match[1].strip(), display='block')}</div>"

    markdown = re.sub(r"\\\[(.+?)\\\]", block, markdown, flags=re.DOTALL)
    # a line that began with <math> would be taken for a block
    return re.sub(
        r"\\\((.+?)\\\)", lambda match: f"<span>{convert(match[1])}</span>", markdown
    )


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
