"""What comes with llmctl: unit templates and example profiles."""

from collections.abc import Iterator
from pathlib import Path


def data_dir() -> Path:
    """units/, profiles/ and ansible/: inside an installed package, beside it in a checkout.

    An editable install has no `_data`: hatch's force-include only fills wheels.
    """
    package = Path(__file__).parent.parent  # importlib.resources would cost 2 ms here
    packaged = package / "_data"
    return packaged if packaged.is_dir() else package.parent


def is_checkout() -> bool:
    """This is a checkout of the project, and no package that was made of one."""
    return data_dir().name != "_data"


def example_profiles() -> Iterator[tuple[str, str]]:
    """The profiles that come with llmctl, name and text."""
    for path in sorted((data_dir() / "profiles").glob("*.yaml")):
        yield path.stem, path.read_text()


def template(name: str) -> str:
    """A unit template's text: `llm.service`, `llm.slice`."""
    return (data_dir() / "units" / f"{name}.j2").read_text()
