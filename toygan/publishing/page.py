"""Loads the HTML templates of reports."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def page_templates(package: str, folder: str = "") -> Environment:
    """Returns the templates in a folder of a package. They escape values. A missing value is an error."""
    return Environment(
        loader=PackageLoader(package, folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
