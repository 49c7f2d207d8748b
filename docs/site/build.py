"""Builds the site of the documents into `site/`; `make docs-site` runs it.

The sources are collected in a temporary folder with the paths of the repository, so that links between
documents, and to other files, are those that a reader of the repository follows. A link without a
target stops the build. The site loads nothing from another host, and its search needs no server.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from docs.site.reference import pages
from web.build import BuildError, install, machine_node, wheel_node

SITE = Path(__file__).parent
ROOT = SITE.parents[1]
OUTPUT = ROOT / "site"
SPHINX = ROOT / ".venv-docs" / "bin" / "sphinx-build"
LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "clients/typescript/README.md")
LOG = "npm.log"


def main() -> None:
    """Build the site, or with `--check` only check it. Exit with the lines that say what is wrong."""
    is_check = sys.argv[1:] == ["--check"]
    with tempfile.TemporaryDirectory(prefix="treadle-docs-") as folder:
        source, built = Path(folder) / "source", Path(folder) / "html"
        try:
            collect(source)
            if not is_check:
                copy_diagram_script(source / "_static" / "mermaid")
        except BuildError as error:
            sys.exit(f"docs-site: {error}")
        # -W: a warning, such as a link without a target, is an error. -n: so is a reference without one.
        command = [SPHINX, "-W", "--keep-going", "-q", "-n", "-j", "auto", "-c", source, source, built]
        if subprocess.run(command, check=False).returncode:
            sys.exit("docs-site: the lines above say which document is wrong")
        if not is_check:
            shutil.rmtree(OUTPUT, ignore_errors=True)
            shutil.copytree(built, OUTPUT)
    sys.stdout.write("docs-site: checked\n" if is_check else f"docs-site: {OUTPUT / 'index.html'}\n")


def collect(source: Path) -> None:
    """Put the documents, the files that they link to, and the generated pages into a folder."""
    for document in documents():
        put(document.relative_to(ROOT), with_links_to_pages(document), source)
        for target in linked(document):
            copy(target, source)
    for name in ("conf.py", "index.md", "package.json"):
        shutil.copy(SITE / name, source / name)
    for name, text in pages((ROOT / "schema" / "schema.graphql").read_text()).items():
        put(Path("reference") / f"{name}.md", text, source)
    put(Path("docs/decisions/index.md"), decisions(), source)
    (source / "_static").mkdir()


def documents() -> Iterator[Path]:
    """Yield the documents of the repository."""
    yield from (ROOT / name for name in TOP)
    yield from sorted((ROOT / "docs").glob("*.md"))
    yield from sorted((ROOT / "docs" / "decisions").glob("*.md"))


def linked(document: Path) -> Iterator[Path]:
    """Yield the files and folders of the repository that a document links to, without documents."""
    for match in LINK.finditer(document.read_text()):
        target = (document.parent / match[1]).resolve()
        if target.exists() and target.is_relative_to(ROOT) and target.suffix != ".md":
            yield target


def with_links_to_pages(document: Path) -> str:
    """Return the text of a document, in which a link to a folder leads to the page of that folder."""

    def page(match: re.Match[str]) -> str:
        folder = (document.parent / match[1]).is_dir()
        return f"]({match[1].rstrip('/')}/index.md" if folder else match[0]

    return LINK.sub(page, document.read_text())


def copy(path: Path, source: Path) -> None:
    """Copy a file to its place in the source, or a folder with a page that lists its files."""
    name = path.relative_to(ROOT)
    if path.is_file():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, source / name)
    elif name != Path("docs/decisions"):
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
        for file in files:
            copy(file, source)
        rows = "\n".join(f"- [{file.relative_to(path)}]({file.relative_to(path)})" for file in files)
        put(name / "index.md", f"---\norphan: true\n---\n\n# {name}\n\n{rows}\n", source)


def put(name: Path, text: str, source: Path) -> None:
    """Write a page to its place in the source."""
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).write_text(text)


def decisions() -> str:
    """Return the page that lists the decisions."""
    names = sorted(path.stem for path in (ROOT / "docs" / "decisions").glob("*.md"))
    listed = "\n".join(names)
    return (
        f"# Decisions\n\nWhy the parts of Treadle are as they are.\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
    )


def copy_diagram_script(static: Path) -> None:
    """Install Mermaid from its npm package, and copy its script, its parts and its licence."""
    install(SITE, machine_node() or wheel_node(), LOG)
    package = SITE / "node_modules" / "mermaid"
    chunks = Path("chunks") / "mermaid.esm.min"
    (static / chunks).mkdir(parents=True)
    shutil.copy(package / "LICENSE", static / "LICENSE")
    shutil.copy(package / "dist" / "mermaid.esm.min.mjs", static)
    for script in (package / "dist" / chunks).glob("*.mjs"):
        shutil.copy(script, static / chunks)


if __name__ == "__main__":
    main()
