"""The commands: words typed by a user, turned into one call each and shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from neologism import comparison, knowing, looking, options, publishing, screen, tuning
from neologism.errors import NeologismError
from neologism.options import Json
from neologism.screen import printed

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Teach a text-to-image model a new word from a few pictures. Start with: neologism demo",
)
console = Console(stderr=True)


@app.command(epilog="Example: neologism train photos/mug --word '<my-mug>' --like mug")
@options.with_recipe
def train(recipe: Any, out: Path | None, as_json: bool) -> None:
    """Teach the base a word from the pictures in a folder. Type the same again to go on with a run."""
    from neologism.training import train as learn

    finished = screen.follow(learn(recipe, out), console)
    if as_json:
        printed(
            {
                "words": [
                    {"word": f.word, "file": f.file, "sheet": f.sheet, "steps": f.step, "seconds": f.seconds}
                    for f in finished
                ]
            }
        )


@app.command("train-many", epilog="Example: neologism train-many words.csv --out words --together 16")
@options.with_manifest
def train_many(manifest: Path, settings: dict[str, Any], out: Path, together: int, as_json: bool) -> None:
    """Teach the base many words at once; each is what it would be alone. A CSV row needs the columns pictures and word,
    and may have any setting of one word (like, seed, steps, ...). Type the same again to go on."""
    from neologism.manifest import recipes
    from neologism.many import train_many as learn

    made = recipes(manifest, settings)
    finished, failed = screen.follow_many(learn(made, out, together), len(made), console)
    if as_json:
        words = [{"word": f.word, "file": f.file, "steps": f.step, "seconds": f.seconds} for f in finished]
        printed({"words": words, "failed": [{"word": f.word, "reason": f.reason} for f in failed]})
    if failed:
        raise typer.Exit(failed[0].code)


@app.command(
    epilog="Example: neologism generate 'a <my-mug> on a blue background' --word words/my-mug/word.safetensors -n 4"
)
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw, the learned words in it.")],
    word: Annotated[
        list[Path] | None, typer.Option(help="File of a learned word; give it again for more words.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="File of weights that train --method dreambooth or lora wrote.")
    ] = None,
    words: Annotated[Path | None, typer.Option(help="File of a domain's words that finetune wrote.")] = None,
    base: Annotated[str, typer.Option(help="The base model the words were learned on.")] = "emoji",
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many pictures.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first picture; the next has the next.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = 25,
    guidance: Annotated[float, typer.Option(min=0, help="Classifier-free guidance scale.")] = 5.0,
    negative: Annotated[str, typer.Option(help="What the pictures should not show.")] = "",
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels; the base's own square where not given.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    out: Annotated[Path, typer.Option("--out", "-o", help="A .png for all pictures in one, or a folder.")] = Path(
        "pictures"
    ),
    as_json: Json = False,
) -> None:
    """Draw a prompt with learned words in it."""
    from neologism.gallery import draw_to_files

    seeds, others = range(seed, seed + number), [file for file in (weights, words) if file]
    files = draw_to_files(
        prompt, word or [], base, seeds, steps, guidance, negative, device, out, screen.noting(console), others, size
    )
    for file in files:
        console.print(f"[green]wrote[/] {file}", highlight=False, soft_wrap=True)
    if as_json:
        printed({"prompt": prompt, "files": files})


@app.command(epilog="Example: neologism inspect words/my-mug/word.safetensors")
def inspect(
    file: Annotated[Path, typer.Argument(help="A word's file.")],
    base: Annotated[
        str | None, typer.Option(help="Compare with this base instead of the one named in the file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell what is in a word's file: vectors, norms against the vocabulary, nearest words, base, how it was learned."""
    from neologism.inspecting import inspected

    facts = inspected(file, base)
    screen.show_facts(facts, console)
    if as_json:
        printed(facts)


@app.command(epilog="Example: neologism convert words/my-mug/word.safetensors my-mug --to a1111")
def convert(
    file: Annotated[Path, typer.Argument(help="A word's file, of whatever tool.")],
    out: Annotated[Path, typer.Argument(help="The file to write; its ending may be left out.")],
    to: Annotated[
        str,
        typer.Option(
            help="common (one file that most tools read), diffusers, a1111, a1111-png, comfyui, kohya, invokeai, onetrainer."
        ),
    ] = "common",
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Whose vectors a file of one bare tensor holds: clip_l, clip_h, clip_g, t5, or text for any other."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a word's file again as another tool wants it; the vectors stay the same to the bit."""
    from neologism import formats

    found = formats.examined(file, encoder)
    written = formats.save(found.embedding, out, to)
    screen.show_converted(found, written, formats.how_to_use(found.embedding, written, to), console)
    if as_json:
        printed({"word": found.embedding.word, "recognised": found.layout, "notes": list(found.notes), "file": written})


@app.command(
    epilog="Example: neologism transfer words/my-mug/word.safetensors --to stabilityai/stable-diffusion-xl-base-1.0"
)
def transfer(
    word: Annotated[Path, typer.Argument(help="A learned word's file.")],
    to: Annotated[str, typer.Option(help="The base to carry it to.")],
    source: Annotated[
        str | None, typer.Option("--from", help="The base it was learned on, where the file does not say it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write; beside the word's where not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Carry a word to another family as a start for training there, and say how well known words are found there."""
    from neologism import formats
    from neologism.transferring import transfer as carry

    carried, fits = carry(formats.load(word), to, source)
    file = formats.save(carried, out or word.with_name(f"{word.stem}-start.safetensors"))
    screen.show_transfer(carried, fits, file, console)
    if as_json:
        printed({"word": carried.word, "file": file, "base": carried.base, "fits": [vars(fit) for fit in fits]})


@app.command(epilog="Example: neologism merge words/my-dog/difference.safetensors --out my-dog-model")
def merge(
    weights: Annotated[Path, typer.Argument(help="File of weights that train or finetune wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The diffusers folder to write.")],
    base: Annotated[str, typer.Option(help="The base model they were learned on.")] = "emoji",
    as_json: Json = False,
) -> None:
    """Merge learned weights into a copy of their base: a folder that plain diffusers opens."""
    from neologism.merging import merge as merged

    spelled = merged(weights, base, out)
    screen.show_merged(out, spelled, console)
    if as_json:
        printed({"folder": out, "spelled": spelled})


@app.command(epilog="Example: neologism verify words/my-mug")
def verify(run: Annotated[Path, typer.Argument(help="The folder of a finished run.")], as_json: Json = False) -> None:
    """Prove that a run changed nothing but its word: hashes of every tensor, and pictures bit for bit."""
    from neologism.verifying import verify as proved

    verdict = proved(run)
    screen.show_verdict(verdict, console)
    if as_json:
        printed(
            {
                "untouched": verdict.untouched,
                "tensors": verdict.tensors,
                "pictures": verdict.pictures,
                "changed": verdict.changed,
            }
        )
    if not verdict.untouched:
        raise typer.Exit(8)


@app.command(epilog="Example: neologism demo --out demo")
def demo(
    subject: Annotated[str | None, typer.Option(help="Which of the example subjects to teach.")] = None,
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run.")] = 0,
) -> None:
    """Teach the base that ships a thing it has never seen, and draw it in new scenes beside the real one."""
    from neologism import demonstration

    demonstration.demo(subject, out, seed, console)


@app.command(epilog="Example: neologism recipe sd15-object-8gb > mug.toml")
def recipe(
    name: Annotated[
        str | None, typer.Argument(help="A recipe that ships; without one, every setting at its default.")
    ] = None,
    known: Annotated[bool, typer.Option("--list", help="List the recipes that ship.")] = False,
) -> None:
    """Print a recipe as TOML: every setting at its default, or one that ships for a family, a kind and a memory."""
    from neologism.cookbook import chosen, shipped, written
    from neologism.recipe import Recipe

    if known:
        sys.stdout.write("\n".join(shipped()) + "\n")
    else:
        sys.stdout.write(chosen(name).read_text("utf-8") if name else written(Recipe()))


app.command("finetune", epilog=tuning.EXAMPLE)(options.with_pairs(tuning.finetune))
app.command("compare", epilog=comparison.EXAMPLE)(comparison.compare)
looking.register(app)
knowing.register(app)
publishing.register(app)

PANELS = {
    "Teach": ("demo", "train", "train-many", "finetune", "compare", "recipe"),
    "Draw with words, and take them elsewhere": ("generate", "inspect", "convert", "transfer", "merge"),
    "Know what was learned": ("score", "explain", "report", "watch", "verify", "benchmark"),
    "Pictures": ("check", "prepare"),
    "Share": ("card", "push"),
}
"""The commands as --help shows them, each panel in the order it is given."""


def arranged(app: typer.Typer) -> None:
    """Put every command into its panel."""
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    named: dict[str, Any] = {
        str(one.name or getattr(one.callback, "__name__", "")): one for one in app.registered_commands
    }
    for name, command in named.items():
        command.rich_help_panel = panels[name]
    app.registered_commands[:] = [named[name] for name in panels]


arranged(app)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error a user can mend is told in plain words, with its own exit code."""
    try:
        guarded(lambda: app(arguments, standalone_mode=True))
    except NeologismError as error:
        console.print(f"[red]neologism:[/] {screen.plain(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)


def guarded(command: Callable[[], Any]) -> None:
    """Run a command with third parties' chatter off."""
    import logging
    import os
    import warnings

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    for chatter in ("torchao", "torch.utils._pytree"):  # what an extra beside another torch murmurs at every start
        logging.getLogger(chatter).setLevel(logging.ERROR)
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", module="(diffusers|transformers|torch|huggingface_hub).*")
    command()


if __name__ == "__main__":
    main()
