"""Runs notebooks from start to end with their whole budget, and keeps the outputs in them: `make notebooks`.

What would differ from one run to the next and tells nobody anything (time stamps) is left out.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main(paths: list[Path]) -> None:
    """Runs each in its own kernel, of this Python, in its own folder; one that fails stays as it was."""
    for path in paths:
        print(f"{path}: running", flush=True)
        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=None,
            record_timing=False,
            resources={"metadata": {"path": str(path.parent)}},
        )
        client.execute()
        notebook.metadata.language_info = {"name": "python"}
        nbformat.write(notebook, path)


if __name__ == "__main__":
    given = [Path(name) for name in sys.argv[1:]]
    main(given or sorted(Path(__file__).parent.glob("*.ipynb")))
