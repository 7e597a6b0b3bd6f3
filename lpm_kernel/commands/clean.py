"""`lpm clean`: the demo goes, whatever is yours stays."""

from lpm_kernel.commands.base import WorkspaceOption


def clean(workspace: WorkspaceOption = "") -> None:
    """Take the demo away: its own files, byte for byte, and what its runs made. Whatever is yours stays."""
    from lpm_kernel.demo.gift import take_away
    from lpm_kernel.runner.settings import open_workspace
    from lpm_kernel.workspace.places import Workspace

    place = open_workspace(workspace)
    for root in (place, Workspace(place.root / "demo")):
        take_away(root)
