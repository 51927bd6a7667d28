"""Every test runs with the shapes in our signatures checked: see `shape_checks` for what that means."""

import jaxtyping

from tests import shape_checks

# Before any test module imports them. Modules that are imported already would go unchecked.
jaxtyping.install_import_hook(["discovery", "envs"], f"{shape_checks.__name__}.functions")
