"""Build hook: an editable install also requires the packages that `train` and `eval` need.

The wheel contains only `zoo`, and requires the packages that `zoo` imports. An editable install
makes the whole checkout importable, so it also requires the extra `checkout` of pyproject.toml.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CheckoutDependencies(BuildHookInterface):
    """Adds the packages of the extra `checkout` to the dependencies of an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before each build; `version` is ``standard`` or ``editable``."""
        if version == "editable":
            extras = self.metadata.core.optional_dependencies
            build_data["dependencies"] += extras["checkout"]
