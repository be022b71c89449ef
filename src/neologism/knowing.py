"""Commands that tell what was learned: words typed by a user, turned into one call each and shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from neologism.options import Json
from neologism.screen import plain, printed

if TYPE_CHECKING:
    from neologism.scoring import Scored

console = Console(stderr=True)
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]
Run = Annotated[Path, typer.Argument(help="The folder of a run.")]


def register(app: typer.Typer) -> None:
    """Give the app these commands."""
    app.command(epilog="Example: neologism report words/my-mug")(report)
    app.command(epilog="Example: neologism benchmark dreambench/dataset --steps 400 --out compared")(benchmark)
    app.command(epilog="Example: neologism explain 'a <my-mug> on a table' --word words/my-mug/word.safetensors")(
        explain
    )
    app.command(epilog="Example: neologism watch words/my-mug")(watch)
    app.command(epilog="Example: neologism score words/my-mug --photos other-photos-of-it")(score)


def wrote(file: Path) -> None:
    """Say which file was written."""
    console.print(f"[green]wrote[/] {file}", highlight=False, soft_wrap=True)


def report(run: Run) -> None:
    """Write report.html anew: what was learned, on one page that stands by itself. Every run writes it at its end."""
    from neologism.report import report as told

    wrote(told(run))


def score(
    source: Annotated[Path, typer.Argument(help="The folder of a finished run, or a word's file.")],
    photos: Annotated[
        Path | None, typer.Option(help="Photos to compare with, best such as it did not learn from.")
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="Folders or hub ids of CLIP, SigLIP, DINO, DINOv2, separated by commas; auto takes the usual ones."
        ),
    ] = "auto",
    prompts: Annotated[Path | None, typer.Option(help="Text file of scenes, a line each, {} for the word.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Pictures of every prompt.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = 10,
    base: Annotated[str | None, typer.Option(help="The base, where it is not the one the word tells.")] = None,
    device: Device = "auto",
    checkpoints: Annotated[
        bool, typer.Option(help="Compare the checkpoints a run kept instead, and keep the best word beside the last.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say how good a word is: like the photos, true to prompts, various; beside the start word, the nearest word and the real photos."""
    from neologism import learned, scoring
    from neologism.report import report as told

    scenes = learned.prompts_in(prompts) if prompts else scoring.SCENES
    if checkpoints:
        return which_step(source, photos, metrics, scenes, seeds, steps, base, device, as_json)
    scored = learned.score(source, photos, metrics, scenes, seeds, steps, base, device, show_scored)
    if source.is_dir():
        wrote(told(source))
    if as_json:
        printed({"words": [one.as_dict() for one in scored]})


def show_scored(scored: Scored) -> None:
    """A word's figures as a table, and what they mean."""
    table = Table("metric", plain(scored.word), "95 %", "anchors", box=None)
    for metric in scored.metrics:
        sure = "" if metric.low is None or metric.high is None else f"{metric.low:.3f} to {metric.high:.3f}"
        anchors = ", ".join(f"{name} {value:.3f}" for name, value in metric.anchors.items())
        table.add_row(plain(metric.name), f"{metric.own:.3f}", sure, plain(anchors))
    console.print(table)
    for text in scored.remarks:
        console.print(plain(text), highlight=False, soft_wrap=True)


def which_step(
    source: Path, photos: Path | None, metrics: str, scenes: Sequence[str], seeds: int, steps: int, base: str | None,
    device: str, as_json: bool,
) -> None:  # fmt: skip
    """Which step of a run to keep."""
    from neologism import keeping
    from neologism.report import report as told

    chosen = keeping.choose(source, photos, metrics, scenes, seeds, steps, base, device)
    for choice in chosen:
        table = Table(plain(choice.word), "probe", "like the photos", "true to prompts", "against the last", box=None)
        for one in choice.steps:
            prompt, probe = (("" if value is None else f"{value:.3f}") for value in (one.prompt, one.probe))
            sure = f"{one.gain:+.3f}" + ("" if one.low is None else f" ({one.low:+.3f} to {one.high:+.3f})")
            sure = "the last" if one is choice.steps[-1] else sure
            table.add_row(f"step {one.step}", probe, f"{one.subject:.3f}", prompt, sure)
        console.print(table)
        console.print(plain(choice.advice), highlight=False, soft_wrap=True)
    wrote(told(source))
    if as_json:
        printed({"words": [choice.as_dict() for choice in chosen]})


def benchmark(
    folder: Annotated[Path, typer.Argument(help="A folder with a folder of pictures for each subject.")],
    prompts: Annotated[
        Path | None,
        typer.Option(help="TOML of prompts by kind, or DreamBench's own text file; those that ship where not given."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="Recipe of the runs: a TOML file, or one that ships.")] = "",
    training_steps: Annotated[int | None, typer.Option(min=1, help="Steps that each word learns.")] = None,
    metrics: Annotated[str, typer.Option(help="Networks that compare, as for score.")] = "auto",
    seeds: Annotated[int, typer.Option(min=1, help="Pictures of every prompt.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = 25,
    base: Annotated[str, typer.Option(help="The base model.")] = "emoji",
    device: Device = "auto",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Runs, pictures, benchmark.csv and index.html go here.")
    ] = Path("benchmark"),
    as_json: Json = False,
) -> None:
    """Teach a word for every subject and compare: all prompts, four seeds, beside the class word. Type the same again to go on."""
    from neologism import protocol, screen
    from neologism.cookbook import read
    from neologism.families import open_model
    from neologism.metrics import networks

    told = protocol.asked(prompts, base)
    settings = (read(Path(recipe)) if recipe else {}) | {"base": base, "device": device}
    settings |= {"steps": training_steps} if training_steps else {}
    seeing, model = networks(metrics, base), open_model(base, device, "fp32")
    rows: list[protocol.Row] = []

    def events() -> Any:
        for event in protocol.benchmarked(model, folder, told, seeing, settings, range(seeds), steps, out):
            if isinstance(event, list):
                rows.extend(event)
                console.print(f"{plain(event[0].subject)}: {event[0].metric} {event[0].word:.3f}", highlight=False)
            else:
                yield event

    screen.follow(events(), console)
    table, page = protocol.written(rows, out)
    for total in protocol.totals(rows):
        line = f"{total.metric}, {total.network}: {total.word:.3f} (class word {total.class_word:.3f}), {total.subjects} subjects"
        console.print(plain(line), highlight=False, soft_wrap=True)
    wrote(table)
    wrote(page)
    if as_json:
        printed({"totals": [vars(total) for total in protocol.totals(rows)], "table": table, "page": page})


def watch(
    run: Run,
    once: Annotated[bool, typer.Option("--once", help="Show how it is now, and end.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 1.0,
) -> None:
    """Follow a run that another process is doing: its numbers as they come. Ends with the run, or by Ctrl-C; the run goes on."""
    import time

    from rich.live import Live

    from neologism.watching import ended, panel

    if once:
        console.print(panel(run))
        return
    with Live(panel(run), console=console, auto_refresh=False) as live:
        while not ended(run):
            time.sleep(every)
            live.update(panel(run), refresh=True)


def explain(
    prompt: Annotated[str, typer.Argument(help="What to draw, the learned word in it.")],
    word: Annotated[list[Path] | None, typer.Option(help="File of a learned word, or the folder of its run.")] = None,
    of: Annotated[str, typer.Option(help="The word to follow; the first learned one where not given.")] = "",
    base: Annotated[str | None, typer.Option(help="The base, where it is not the one the word tells.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the picture.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = 20,
    photos: Annotated[
        Path | None, typer.Option(help="Photos of the word to look in; those the run learned from where not given.")
    ] = None,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for explained.png; the run's where not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show where a word looks: the prompt as tokens with the lengths of their vectors, and the word's attention over the picture."""
    from neologism import explaining, formats, learned
    from neologism.families import open_model
    from neologism.report import report as told

    files = [path / "word.safetensors" if path.is_dir() else path for path in word or []]
    words = [formats.load(file) for file in files]
    followed = of or (words[0].word if words else prompt.split()[-1])
    model = open_model(base or (words[0].base if words else "") or "emoji", device, "fp32")
    shown = learned.photos_of(followed, [file.parent for file in files], photos)
    looks = explaining.explain(model, prompt, words, followed, seed, steps, photos=shown)
    for key, tokens in looks.tokens.items():
        parts = (
            f"[bold]{plain(t.written)}[/] {t.norm:.2f}" if t.learned else f"{plain(t.written)} {t.norm:.2f}"
            for t in tokens
        )
        console.print(f"{key}: {'   '.join(parts)}", highlight=False, soft_wrap=True)
    console.print(plain(looks.told), highlight=False, soft_wrap=True)
    folder = out or (files[0].parent if files else Path("."))
    wrote(explaining.kept(looks, prompt, followed, folder))
    if (folder / "recipe.toml").is_file():
        wrote(told(folder))
    if as_json:
        found = [{"name": one.name, "lift": one.lift, "masked": one.masked} for one in looks.photos]
        sheet = folder / "explained.png"
        printed({"word": followed, "lift": looks.lift, "photos": found, "told": looks.told, "sheet": sheet})
