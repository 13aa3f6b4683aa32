"""The README as an index shows it, when the package is built: hatchling's metadata hook.

Links to other files of the repository lead nowhere from an index's page. With SPARKTUNE_REPOSITORY set to
the repository's public address, they lead to the files as they were when this version was tagged, and the
metadata names the address. Without it the README stays as it is.

Source: https://hatch.pypa.io/latest/plugins/metadata-hook/custom/
"""

import os
import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!\w+:|#)([^)]+)\)")


class Readme(MetadataHookInterface):
    def update(self, metadata: dict) -> None:
        text = (Path(self.root) / "README.md").read_text("utf-8")
        repository = os.environ.get("SPARKTUNE_REPOSITORY", "").rstrip("/")
        if repository:
            tag = f"v{self.version()}"

            def absolute(link: re.Match) -> str:
                place = "raw" if link[1] else "blob"
                return f"{link[1]}{link[2]}({repository}/{place}/{tag}/{link[3]})"

            text = LINK.sub(absolute, text)
            changes = f"{repository}/blob/{tag}/CHANGELOG.md"
            metadata["urls"] = {"Source": repository, "Changelog": changes}
        metadata["readme"] = {"content-type": "text/markdown", "text": text}

    def version(self) -> str:
        package = (Path(self.root) / "sparktune" / "__init__.py").read_text("utf-8")
        return re.search(r'^__version__ = "(.*)"$', package, re.M)[1]
