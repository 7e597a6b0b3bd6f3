"""`lpm clean`: the demo goes, whatever is yours stays."""

from lpm_kernel.commands.base import WorkspaceOption
from lpm_kernel.progress import say


def clean(workspace: WorkspaceOption = "") -> None:
    """Take the demo away: its own files, byte for byte, and what its runs made. Whatever is yours stays."""
    from lpm_kernel.demo.gift import belows, take_away
    from lpm_kernel.runner.settings import is_demo, open_workspace

    place = open_workspace(workspace)
    for root in (*belows(place), place):
        if not take_away(root) and is_demo(root):
            say(f"{root.root} holds a demo without a record of its files, so nothing is taken away; remove it by hand")
