"""What `mkdocs` builds the site from: docs/, Markdown elsewhere in the repository, and pages made of the code.

A page links as it does in the repository, so that links work there too: here each is looked up, and what it names
outside docs/ becomes a page (Markdown) or a file of the site. A link to what does not exist fails the build.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # mkdocs loads this file by its path

from tools.site.notebooks import as_markdown  # noqa: E402
from tools.site.reference import PAGES  # noqa: E402

LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
# Pages of the site that lie outside docs/ under another name than their own.
RENAMED = {"README.md": "index.md", "NOTICE": "NOTICE.md"}
ORIGIN: dict[str, str] = {}  # page of the site -> file of the repository


def site_path(path: str) -> str:
    """Where a file of the repository is on the site."""
    return RENAMED.get(path) or path.removeprefix("docs/")


def targets(text: str, origin: str) -> list[str]:
    """Files of the repository that a page links to."""
    folder = posixpath.dirname(origin)
    return [posixpath.normpath(posixpath.join(folder, link[2])) for link in LINK.finditer(text)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that the code makes, the notebooks, and all that pages link to outside docs/."""
    for name, make in PAGES.items():
        files.append(File.generated(config, name, content=make()))
    for script in sorted((ROOT / "docs" / "notebooks").glob("*.py")):
        name = f"notebooks/{script.stem}.md"
        files.append(File.generated(config, name, content=as_markdown(script.read_text())))
    ORIGIN.update({file.src_uri: f"docs/{file.src_uri}" for file in files})
    queue = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "NOTICE", "SECURITY.md"]
    queue += [page for page in _pages_of_nav(config.nav) if page.endswith("README.md") and page not in ORIGIN]
    queue += [
        name for file in files.documentation_pages() for name in targets(file.content_string, ORIGIN[file.src_uri])
    ]
    while queue:
        path = queue.pop()
        source, name = ROOT / path, site_path(path)
        if name in ORIGIN or not source.is_file() or path.startswith(".."):
            continue  # a link to nothing stays as it is, and mkdocs complains of it
        ORIGIN[name] = path
        if name.endswith(".md"):
            text = source.read_text()
            text = f"# Notices\n\n```text\n{text}\n```\n" if path == "NOTICE" else text
            files.append(File.generated(config, name, content=text))
            queue += targets(text, path)
        else:
            files.append(File.generated(config, name, abs_src_path=str(source)))
    return files


def _pages_of_nav(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    values = nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ()
    return [page for value in values for page in _pages_of_nav(value)]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are on the site."""
    here, origin = page.file.src_uri, ORIGIN[page.file.src_uri]

    def moved(link: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link[2]))
        return f"{link[1]}{posixpath.relpath(site_path(target), posixpath.dirname(here) or '.')}{link[3]}"

    return LINK.sub(moved, markdown)
