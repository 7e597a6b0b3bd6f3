"""`lpm bio edit`: the owner's editor on the bio, with a template where there is none."""

import os
import shlex
import subprocess
from pathlib import Path

from lpm_kernel.errors import LpmError, UsageError
from lpm_kernel.files import write_atomically
from lpm_kernel.owner.bio import read_bio
from lpm_kernel.progress import say

TEMPLATE = """## Who I am
Name, age, where I live, who is close to me.

## What I do
Work, studies, projects.

## What I care about
Interests, habits, likes and dislikes, goals."""


def edit(path: Path, found: Path | None) -> None:
    """Edit the bio at `path`, from what was found elsewhere where it is not there yet.

    Raises UsageError when no editor is set, LpmError when it fails; an untouched draft is not kept.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise UsageError(f"neither VISUAL nor EDITOR is set; set one, or write {path} in any editor")
    fresh = not path.exists()
    draft = read_bio(found) if found else TEMPLATE
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
