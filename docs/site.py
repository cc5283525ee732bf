"""Hooks of the docs site (mkdocs.yml): pages beside docs/ are part of it, and links to other files of the repository are names.

A link that leads neither to a page nor to a file of the repository fails the build.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# Pages outside docs/, by their place in the repository and in the site.
BESIDE = {
    "README.md": "overview.md",
    "config/README.md": "configuration.md",
    "results/README.md": "results-files.md",
    "benchmarks/README.md": "benchmarks.md",
    "CONTRIBUTING.md": "contributing.md",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie beside docs/."""
    for source, page in BESIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them: a page of the repository by its place here, any other file of the repository by its name."""
    here = {site: source for source, site in BESIDE.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def changed(found: re.Match) -> str:
        picture, text, link, anchor = found[1], found[2], found[3], found[4] or ""
        if re.match(r"\w+:", link):
            return found[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(here), link))
        if not (ROOT / place).exists():
            raise PluginError(f"{here}: the link {link} leads nowhere")
        if place in BESIDE:
            return f"{picture}[{text}]({_relative(BESIDE[place], page.file.src_uri)}{anchor})"
        if place.startswith("docs/") and (ROOT / place).is_file():
            return f"{picture}[{text}]({_relative(place.removeprefix('docs/'), page.file.src_uri)}{anchor})"
        if (ROOT / place / "README.md").is_file() and place.startswith("docs"):
            return f"[{text}]({_relative(f'{place}/README.md'.removeprefix('docs/'), page.file.src_uri)}{anchor})"
        return f"{text} (`{place}`)"

    parts = re.split(r"(^```.*?^```|`[^`\n]+`)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if index % 2 else _LINK.sub(changed, part) for index, part in enumerate(parts))


def _relative(place: str, page: str) -> str:
    return posixpath.relpath(place, posixpath.dirname(page) or ".")
