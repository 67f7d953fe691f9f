"""The documentation: every Python block runs, page by page, and the site builds without a warning."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import conv_model

from keras_rar.paper import datasets, networks
from keras_rar_cli import command

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
FRONT = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
RUN = [ROOT / "CONTRIBUTING.md"]
RUN += [page for page in PAGES if "```python" in page.read_text("utf-8")]


def small_data(name, split=None, **options):
    """Images that a small network learns a little of."""
    rng = np.random.default_rng(0)
    parts = []
    for n in (240, 600):
        y = np.arange(n) % 10
        x = 0.4 * rng.uniform(size=(n, 28, 28, 1))
        x[np.arange(n), 4:24, 2 * y + 4] += 0.6
        parts.append((x.astype("float32"), y))
    return parts if split is None else parts[split == "test"]


def small_network(**options):
    keras.utils.set_random_seed(0)
    return conv_model(28, classes=10)


LONG = {
    "measuring",
    "networks",
    "data-set",
    "tabular",
    "inputs",
    "text",
    "choosing",
    "serving",
    "cluster",
}  # pages whose code takes long


def marked(page):
    return pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in LONG else [])


@pytest.mark.parametrize("page", map(marked, RUN))
def test_the_code_of_a_page_runs(page, monkeypatch, tmp_path, request):
    """From top to bottom, on a small network and small data."""
    if page.stem != "measuring":  # which is about the controls
        request.getfixturevalue("without_controls")
    monkeypatch.setattr(datasets, "load", small_data)
    monkeypatch.setattr(networks, "cnn", small_network)
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        exec(compile(block, page.name, "exec"), names)  # noqa: S102


@pytest.fixture
def files_named(tmp_path, monkeypatch):
    """What the commands of the pages read, in the working directory."""
    x, _ = small_data("fashion_mnist", "test")
    network = small_network()
    for name in ("model", "natural", "robust"):
        network.save(tmp_path / f"{name}.keras")
    np.savez(tmp_path / "data.npz", x=x[:6], y=network.predict(x[:6], verbose=0).argmax(axis=1))
    (tmp_path / "image.png").write_bytes(tf.io.encode_png((255 * x[0]).astype("uint8")).numpy())
    monkeypatch.chdir(tmp_path)


def test_the_commands_of_the_pages_run(files_named, monkeypatch, capsys):
    """Those of the package, with few steps; examples and make targets are there, with the options named."""
    run = []
    for page in [*PAGES, *FRONT]:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                program, *arguments = shlex.split(line, comments=True)
                run.append(program)
                if program == "keras-rar":
                    few = ["--steps", "2", "--m", "2", "--pgd-steps", "2"] if arguments[0] != "explain" else []
                    few += ["--noise", "0", "--other-maps", "none", "--faithful", "0"] if few else []
                    assert command.main([*arguments, *few]) == 0, (line, capsys.readouterr().err)
                elif program == "python":
                    script = (ROOT / arguments[0]).read_text("utf-8")
                    assert all(f'"{option}"' in script for option in arguments if option.startswith("--"))
                elif program == "make":
                    assert f"\n{arguments[0]}:" in (ROOT / "Makefile").read_text("utf-8")
                else:
                    assert program in ("pip", "git", "cd", "npm", "docker", "curl")
    assert {"keras-rar", "python", "make"} <= set(run)


def test_code_fits_the_pages():
    """About 80 characters are seen on a desktop."""
    for page in PAGES:
        for block in re.findall(r"```(?:python|sh|text)\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            assert max(map(len, block.splitlines())) <= 80, page.name


def test_the_pages_with_code_are_found():
    assert len(RUN) >= 10


def text_of(page):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


ONLY_ON_THE_SITE = {
    "an admonition": r"^(!!!|\?\?\?)",
    "a tab": r"^=== ",
    "attributes": r"\{ ?[#.:]",
    "a definition list": r"^:   ",
    "a docstring": r"^::: ",
    "an equation between brackets": r"\\[(\[]",
    "front matter": r"\A---",
    "a footnote": r"\[\^",
}


@pytest.mark.parametrize("page", [*PAGES, *FRONT], ids=lambda page: page.stem)
def test_a_page_is_markdown_that_a_code_host_shows(page):
    found = [what for what, of in ONLY_ON_THE_SITE.items() if re.search(of, text_of(page), re.MULTILINE)]
    assert not found


def anchors(page):
    """As GitHub, GitLab and our site make them of headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *FRONT], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short_and_of_one_method():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 120
    assert set(re.findall(r'wrap\(.*method="(\w+)"', readme)) == {"ig_topk"}
    assert "threshold" not in readme
    assert readme.index("make try") < readme.index("make demo") < readme.index("make test")
    assert len((ROOT / "docs/fast.md").read_text("utf-8").split()) <= 300


def test_the_files_that_pages_name_are_there():
    for page in [*PAGES, *FRONT]:
        for path in re.findall(r"`((?:keras_rar|tests|docs|examples|benchmarks)/[\w./-]+)`", page.read_text("utf-8")):
            assert (ROOT / path).exists(), (page.name, path)


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in PAGES:
        assert page.relative_to(ROOT / "docs").as_posix() in navigation


def test_every_public_name_is_in_the_api():
    import keras_rar

    shown = " ".join(page.read_text("utf-8") for page in (ROOT / "docs/api").glob("*.md"))
    missing = [name for name in keras_rar.__all__ if name not in shown]
    missing += [name for name in keras_rar.attacks.__all__ if f"keras_rar.attacks.{name}" not in shown]
    assert not missing


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    theory = (tmp_path / "theory/index.html").read_text("utf-8")
    assert "<math" in theory
    assert "$" not in theory.split("<body")[1].split("<footer")[0].split("<article")[1].split("</article")[0]
    assert (tmp_path / "pictures/quickstart.png").exists()
