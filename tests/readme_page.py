"""Makes README what a package index can show: there, what lies beside it in the repository needs its whole address.

usage: readme_page.py URL REVISION        (in the checkout that a release is made from; rewrites README.md)

    readme_page.py https://HOST/OWNER/loadgen v0.1.0
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def absolute(page: str, url: str, revision: str) -> str:
    """Return a page whose links to files lead to a repository.

    Args:
        page: Markdown, with links relative to the repository's root.
        url: The repository's address.
        revision: The tag or commit that is linked to, so that an old version's page keeps its own documents.
    """

    def link(found: re.Match[str]) -> str:
        target = found["target"]
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        kind = "raw" if found["image"] else "blob"
        return f"{found['image']}[{found['text']}]({url.rstrip('/')}/{kind}/{revision}/{target})"

    return _LINK.sub(link, page)


if __name__ == "__main__":
    _, url, revision = sys.argv
    README.write_text(absolute(README.read_text(), url, revision))
