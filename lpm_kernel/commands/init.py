"""`lpm init`: from the demo, or from nothing, to one's own data, by flags or by a few questions."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpm_kernel.commands.base import WorkspaceOption

if TYPE_CHECKING:
    from lpm_kernel.workspace.places import Workspace

REFERENCE = "reference"


def _judges() -> list[str]:
    from lpm_kernel.judges import JUDGES

    return list(JUDGES)


def _file(flag: str, text: str) -> Any:
    return typer.Option(flag, metavar="<path>", help=text, show_default=False)


def init(
    tree: Annotated[
        Path | None, typer.Argument(help="A Second-Me tree: what it holds is put in place.", show_default=False)
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Your name, as SFT called you.", show_default=False)] = "",
    bio: Annotated[Path | None, _file("--bio", "Your bio, Markdown.")] = None,
    data: Annotated[Path | None, _file("--data", "Your SFT data, merged.json.")] = None,
    sft_model: Annotated[Path | None, _file("--sft-model", "Your SFT model, in Hugging Face format.")] = None,
    base_model: Annotated[Path | None, _file("--base-model", "The base model, where SFT is to run here.")] = None,
    adapter: Annotated[Path | None, _file("--adapter", "The SFT adapter of that base model.")] = None,
    gguf: Annotated[Path | None, _file("--gguf", "Your SFT model as GGUF, for the pairs alone.")] = None,
    judge: Annotated[
        str,
        typer.Option("--judge", help="Who judges; asked when left out.", autocompletion=_judges, show_default=False),
    ] = "",
    judge_url: Annotated[
        str, typer.Option("--judge-url", help="Its OpenAI-compatible endpoint.", show_default=False)
    ] = "",
    judge_model: Annotated[str, typer.Option("--judge-model", help="Its model.", show_default=False)] = "",
    workspace: WorkspaceOption = "",
) -> None:
    """Start with your own data: your files in their places, your name and judge set, the demo set aside whole."""
    from lpm_kernel.commands.tables import show_findings
    from lpm_kernel.files import expanded
    from lpm_kernel.runner.init import found_in, set_up
    from lpm_kernel.runner.preflight import examine
    from lpm_kernel.runner.settings import open_workspace, resolve_all
    from lpm_kernel.workspace.places import Workspace

    place = open_workspace(workspace)
    given = {
        "merged.json": data,
        "global_bio": bio,
        "merged_model": sft_model,
        "base_model": base_model,
        "personal_model": adapter,
        "lpm.gguf": gguf,
    }
    sources = found_in(expanded(tree).absolute()) if tree else {}
    sources |= {artifact: expanded(path).absolute() for artifact, path in given.items() if path}
    settings = {"user_name": name, "judge": judge, "judge_base_url": judge_url, "judge_model": judge_model}
    if sys.stdin.isatty():
        _ask(place, sources, settings)
    set_up(place, sources, {key: value for key, value in settings.items() if value})
    fresh = Workspace(place.root)
    show_findings(examine(fresh, resolve_all(fresh)), as_json=False)
    print("next: what is missing above, then lpm pipeline; lpm pipeline --dry-run tells first what would run")


def _ask(place: "Workspace", sources: dict[str, Path], settings: dict[str, str]) -> None:
    """What was not given, a question each; an empty answer leaves it as it is."""
    from lpm_kernel.judges import JUDGES
    from lpm_kernel.runner.init import lacking

    settings["user_name"] = settings["user_name"] or _answer("Your name, as your model's training called you")
    questions = {
        "merged.json": "Your SFT data (the path of merged.json)",
        "global_bio": "Your bio (the path of a Markdown file; empty: write it later with lpm bio edit)",
        "merged_model": "Your SFT model (a folder; empty: SFT runs here, from a base model)",
        "base_model": "The base model (a folder)",
    }
    for artifact, question in questions.items():
        has_model = artifact == "base_model" and "merged_model" in sources
        if artifact in lacking(place, sources) and not has_model and (path := _path(artifact, question)):
            sources[artifact] = path
    if not settings["judge"]:
        told = "; ".join(f"{kind}: {family.about}" for kind, family in JUDGES.items())
        settings["judge"] = _answer(f"Who judges ({told})", REFERENCE)
    if settings["judge"] != REFERENCE and not settings["judge_base_url"]:
        settings["judge_base_url"] = _answer("The judge's endpoint (empty: OPENAI_BASE_URL, else api.openai.com)")
        settings["judge_model"] = settings["judge_model"] or _answer("The judge's model (empty: the standard one)")


def _path(artifact: str, question: str) -> Path | None:
    """Asked until it can be the artifact, or nothing is answered; quotes around it are those of a shell."""
    from lpm_kernel.errors import LpmError
    from lpm_kernel.files import expanded
    from lpm_kernel.progress import say
    from lpm_kernel.runner.use import USABLE

    while answer := _answer(question):
        path = expanded(answer.strip("'\"")).absolute()
        try:
            USABLE[artifact](path)
        except LpmError as error:
            say(f"error: {error}")
        else:
            return path
    return None


def _answer(question: str, default: str = "") -> str:
    return str(typer.prompt(question, default=default, show_default=bool(default), err=True)).strip()
