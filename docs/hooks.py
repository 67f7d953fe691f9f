"""What the site needs beyond the Markdown that a code host shows too.

Equations become MathML, without JavaScript. A list of names on a page of the
API becomes their docstrings. Pictures of the examples and CONTRIBUTING.md lie
outside this folder and are added.
"""

import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

MODULES = {  # shown by their members
    "keras_rar.metrics": {
        "members_order": "alphabetical",
        "show_bases": "false",
    },
    "keras_rar.plotting": {},
}


def on_page_markdown(markdown, page, **_):
    """Replace what a code host shows in its own way."""
    source = page.file.src_uri
    if source == "theory.md":
        page.meta["hide"] = ["toc"]  # room for code beside equations
    if source.startswith("api/"):
        markdown = re.sub(
            r"^- `(keras_rar[\w.]+)`.*(?:\n  .*)*$",
            _docstring,
            markdown,
            flags=re.MULTILINE,
        )
    up = "../" * source.count("/")
    markdown = re.sub(
        r"\]\((?:\.\./)+examples/results/", f"]({up}pictures/", markdown
    )
    markdown = re.sub(
        r"\]\((?:\.\./)+CONTRIBUTING\.md", f"]({up}contributing.md", markdown
    )
    return _with_mathml(markdown)


def on_files(files, config):
    """Add the pictures that the examples wrote, and CONTRIBUTING.md."""
    root = Path(config["config_file_path"]).parent
    results = root / "examples/results"
    for path in sorted(results.rglob("*.png")):
        files.append(
            File.generated(
                config,
                f"pictures/{path.relative_to(results).as_posix()}",
                abs_src_path=str(path),
            )
        )
    text = (root / "CONTRIBUTING.md").read_text("utf-8")
    files.append(
        File.generated(
            config, "contributing.md", content=text.replace("](docs/", "](")
        )
    )
    return files


def _docstring(match):
    """The directive of mkdocstrings for a name."""
    name, lines = match[1], [f"\n::: {match[1]}"]
    if name in MODULES:
        lines.append("    options:")
        hidden = {"show_root_heading": "false", "show_root_toc_entry": "false"}
        for option, value in (hidden | MODULES[name]).items():
            lines.append(f"      {option}: {value}")
    return "\n".join([*lines, ""])


def _with_mathml(markdown):
    """MathML for blocks of math, and for math within a line."""

    def block(match):
        return f"<div>{_mathml(match[1].strip(), 'block')}</div>"

    def inline(match):
        # a line that began with <math> would be taken for a block
        return f"<span>{_mathml(match[1], 'inline')}</span>"

    markdown = re.sub(
        r"^```math\n(.+?)\n```$",
        block,
        markdown,
        flags=re.DOTALL | re.MULTILINE,
    )
    return re.sub(r"\$`([^`]+)`\$", inline, markdown)


def _mathml(latex, display):
    """Bars would be stretched to what is beside them, or shrunk."""
    bars = r"<mo>(&#x02016;|&#x0007C;)</mo>"
    bar = r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>'
    return re.sub(bars, bar, convert(latex, display=display))
