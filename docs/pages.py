"""A hook of MkDocs (mkdocs.yml): the site has the repository's documents at their paths in the repository.

So a link that is right in the repository is right on the site, and README.md is its first page. Files that documents
link to, such as the licence, are copied.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("*.md", "docs/**/*.md", "data/*.md", "benchmarks/*.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """In place of what lies in docs/: every document of the repository, and what these link to."""
    pages = {path for pattern in DOCUMENTS for path in PROJECT.glob(pattern)}
    found = Files([file for file in files if Path(file.src_dir or "") != Path(config.docs_dir)])
    for path in sorted(pages | {target for page in pages for target in _linked(page)}):
        found.append(
            File(
                path.relative_to(PROJECT).as_posix(),
                src_dir=str(PROJECT),
                dest_dir=config.site_dir,
                use_directory_urls=config.use_directory_urls,
            )
        )
    return found


def _linked(page: Path) -> set[Path]:
    """The files of the repository that a document links to."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    targets = {(page.parent / link).resolve() for link in links if "://" not in link}
    return {target for target in targets if target.is_file() and target.is_relative_to(PROJECT)}
