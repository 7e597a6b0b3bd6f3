"""`lpm bio show | edit`: the owner's bio, and the owner's editor on it, with a template where there is none."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import typer

from lpm_kernel.commands.base import Command, Group, JsonOption, WorkspaceOption
from lpm_kernel.errors import LpmError, UsageError
from lpm_kernel.files import write_atomically
from lpm_kernel.progress import say

TEMPLATE = """## Who I am
Name, age, where I live, who is close to me.

## What I do
Work, studies, projects.

## What I care about
Interests, habits, likes and dislikes, goals."""

bio_app = typer.Typer(cls=Group, help="The global bio that every verdict is given by.", no_args_is_help=True)


@bio_app.command(cls=Command)
def show(workspace: WorkspaceOption = "", as_json: JsonOption = False) -> None:
    """Print the bio."""
    from lpm_kernel.owner.bio import read_bio
    from lpm_kernel.runner.settings import documented_bio, open_workspace

    place = open_workspace(workspace)
    source = place.find("global_bio")
    text = read_bio(source or place.place("global_bio")) if source or not documented_bio() else documented_bio()
    print(json.dumps({"path": source and str(source), "text": text}, ensure_ascii=False) if as_json else text)


@bio_app.command(cls=Command)
def edit(workspace: WorkspaceOption = "") -> None:
    """Open the bio in $VISUAL or $EDITOR; a template where there is none yet."""
    from lpm_kernel.owner.bio import read_bio
    from lpm_kernel.runner.settings import documented_bio, open_workspace

    place = open_workspace(workspace)
    found = place.find("global_bio")
    edit_bio(place.place("global_bio"), draft=read_bio(found) if found else documented_bio() or TEMPLATE)


def edit_bio(path: Path, draft: str) -> None:
    """Edit the bio at `path`, which begins as `draft` where it is not there yet.

    Raises UsageError when no editor is set, LpmError when it fails; an untouched draft is not kept.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise UsageError(f"neither VISUAL nor EDITOR is set; set one, or write {path} in any editor")
    fresh = not path.exists()
    if fresh:
        write_atomically(path, draft)
    try:
        code = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode
    except (OSError, ValueError) as error:
        raise UsageError(f"the editor {editor!r} cannot be started ({error}); set VISUAL or EDITOR") from None
    finally:
        if fresh and path.exists() and path.read_text(encoding="utf-8", errors="replace").strip() == draft.strip():
            path.unlink()
            say("nothing was changed, so nothing is kept")
    if code:
        raise LpmError(f"the editor {editor!r} ended with code {code}; the bio is as it left it")
