"""`lpm bio show | edit`: the owner's bio, and the owner's editor on it, with a template where there is none."""

import json
import os
import shlex
import subprocess
from pathlib import Path
from shutil import which

import typer

from lpm_kernel.commands.base import Command, Group, JsonOption, WorkspaceOption
from lpm_kernel.errors import LpmError, ServiceError, UsageError
from lpm_kernel.files import write_atomically
from lpm_kernel.progress import say

EDITORS = ("nano", "vi")
"""Opened where neither VISUAL nor EDITOR names one, the first that is installed."""

bio_app = typer.Typer(cls=Group, help="The global bio that every verdict is given by.", no_args_is_help=True)


@bio_app.command(cls=Command)
def show(workspace: WorkspaceOption = "", as_json: JsonOption = False) -> None:
    """Print the bio."""
    from lpm_kernel.owner.bio import read_bio
    from lpm_kernel.runner.settings import awaited_bio, open_workspace

    place = open_workspace(workspace)
    awaited = awaited_bio(place)
    source = None if awaited else place.find("global_bio")
    text = awaited or read_bio(source or place.place("global_bio"))
    print(json.dumps({"path": source and str(source), "text": text}, ensure_ascii=False) if as_json else text)


@bio_app.command(cls=Command)
def edit(workspace: WorkspaceOption = "") -> None:
    """Open the bio in $VISUAL, $EDITOR, nano or vi; a template where there is none yet."""
    from lpm_kernel.owner.bio import TEMPLATE, read_bio
    from lpm_kernel.runner.settings import documented_bio, open_workspace

    place = open_workspace(workspace)
    path, found = place.place("global_bio"), place.find("global_bio")
    if found == path:
        edit_bio(path)
    elif found or documented_bio():
        edit_copy(path, read_bio(found) if found else documented_bio())
    else:
        write_atomically(path, TEMPLATE)
        say(f"a template is at {path}; fill it in before the first run")
        edit_bio(path)


def edit_copy(path: Path, draft: str) -> None:
    """The same for a bio that begins as another one, which stays the bio as long as the copy is untouched."""
    write_atomically(path, draft)
    try:
        edit_bio(path)
    finally:
        if path.exists() and path.read_text(encoding="utf-8", errors="replace").strip() == draft.strip():
            path.unlink()


def edit_bio(path: Path) -> None:
    """Open the owner's editor on the bio, and say so when nothing was changed; raises what `edit_file` raises."""
    if not edit_file(path, "the bio"):
        say(f"nothing was changed in {path} (an editor that returns at once needs its flag to wait: code --wait)")


def edit_file(path: Path, what: str) -> bool:
    """Open the owner's editor on a file; whether it was changed.

    Raises ServiceError when there is no editor, UsageError when it cannot be started, LpmError when it fails.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or next(filter(which, EDITORS), "")
    if not editor:
        raise ServiceError(
            f"there is no editor: neither VISUAL nor EDITOR is set, and neither {' nor '.join(EDITORS)} is installed; "
            f"install one (apt install nano), or write {path} with any other program"
        )
    before = path.read_bytes()
    try:
        code = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode
    except (OSError, ValueError) as error:
        raise UsageError(f"the editor {editor!r} cannot be started ({error}); set VISUAL or EDITOR") from None
    unchanged = path.is_file() and path.read_bytes() == before
    if code:
        left = f"{what} was not changed" if unchanged else f"{what} is as it left it"
        raise LpmError(f"the editor {editor!r} ended with code {code}, and {left}: {path}")
    return not unchanged
