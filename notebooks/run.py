"""Runs notebooks from start to end with their whole budget, and keeps the outputs in them: `make notebooks`.

What would differ from one run to the next and tells nobody anything (time stamps) is left out, and
pictures get a palette, which makes them a third of the size.
"""

import base64
import io
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

COLOURS = 128


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
        tidy(notebook)
        nbformat.write(notebook, path)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Leaves out the version of Python, and makes pictures small; in place, and again without effect."""
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = with_palette(output.data["image/png"])


def with_palette(png: str) -> str:
    """The picture in few colours; both in base64."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "P":
        return png
    buffer = io.BytesIO()
    picture.convert("RGB").quantize(COLOURS).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    given = [Path(name) for name in sys.argv[1:]]
    main(given or sorted(Path(__file__).parent.glob("*.ipynb")))
