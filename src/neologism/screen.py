"""What the user sees in the terminal."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from neologism.events import Cached, Checkpoint, Event, Failed, Finished, Opened, Picture, Started, Step, Warned

if TYPE_CHECKING:
    from pathlib import Path

    from neologism.checking import Checked
    from neologism.embedding import Embedding
    from neologism.formats import Found
    from neologism.preparing import Prepared
    from neologism.transferring import Fit
    from neologism.verifying import Verdict


def plain(text: str) -> str:
    """A text with nothing in it that rich would take for markup."""
    return escape(text)


def noting(console: Console) -> Callable[[str], None]:
    """What shows a text as a note."""
    return lambda text: console.print(f"[yellow]note:[/] {plain(text)}", highlight=False, soft_wrap=True)


class Interrupted:
    """Whether Ctrl-C was typed: the first asks to save and stop, the second aborts."""

    asked = False

    def __call__(self, *_: object) -> None:
        """Note the first, raise at the second."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def polite_interrupt() -> Generator[Interrupted]:
    """Note Ctrl-C instead of dying of it, until the block ends."""
    interrupted = Interrupted()
    previous = None
    with suppress(ValueError):  # not in the main thread: leave signals alone
        previous = signal.signal(signal.SIGINT, interrupted)
    try:
        yield interrupted
    finally:
        if previous is not None:
            signal.signal(signal.SIGINT, previous)


def follow(events: Iterator[Event], console: Console) -> list[Finished]:
    """Show a run's events as they happen; the finished words. Ctrl-C saves and stops."""
    finished: list[Finished] = []
    with progress(console) as bars:
        tasks: dict[str, TaskID] = {}
        for event in interruptible(events, bars.console):
            if isinstance(event, Step):
                show_step(event, bars, tasks)
            elif isinstance(event, Finished):
                finished.append(event)
            else:
                show_event(event, bars.console)
    for event in finished:
        show_finished(event, console)
    return finished


def follow_many(events: Iterator[Event], words: int, console: Console) -> tuple[list[Finished], list[Failed]]:
    """Show a run of many words: a bar for all, a line for each that learns; the finished words and the failed."""
    finished, failed = list[Finished](), list[Failed]()
    with progress(console) as bars:
        tasks: dict[str, TaskID] = {}
        whole = bars.add_task("words", total=words, facts="")
        for event in interruptible(events, bars.console):
            if isinstance(event, Step):
                show_step(event, bars, tasks)
            elif isinstance(event, Finished | Failed):
                if event.word in tasks:
                    bars.remove_task(tasks.pop(event.word))
                (finished if isinstance(event, Finished) else failed).append(event)  # type: ignore[arg-type]
                show_end(event, bars.console)
                done = len(finished) + len(failed)
                bars.update(whole, completed=done, facts=f"{done}/{words}, {len(failed)} failed")
            elif not isinstance(event, Cached | Started):
                show_event(event, bars.console)
    return finished, failed


def progress(console: Console) -> Progress:
    """Lines with a bar each."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=8), TextColumn("{task.fields[facts]}"), console=console
    )


def interruptible(events: Iterator[Event], console: Console) -> Iterator[Event]:
    """The events, until Ctrl-C saves and stops the run."""
    with polite_interrupt() as interrupted:
        for event in events:
            yield event
            if interrupted.asked:
                events.close()  # type: ignore[attr-defined]
                console.print(
                    "[yellow]stopped and saved;[/] type the same command to go on, or Ctrl-C to abort next time"
                )
                raise SystemExit(130)


def show_end(event: Finished | Failed, console: Console) -> None:
    """How one of many words ended, in a line."""
    if isinstance(event, Failed):
        show_event(event, console)
    else:
        told = f"[green]learned[/] {plain(event.word)} ({plain(event.reason)}) {event.file}"
        console.print(told, highlight=False, soft_wrap=True)


def show_step(event: Step, progress: Progress, tasks: dict[str, TaskID]) -> None:
    """One line a word, renewed at each step."""
    if event.word not in tasks:
        tasks[event.word] = progress.add_task(plain(event.word), total=event.steps, facts="")
    near = " ".join(event.nearest[:2])
    facts = (
        f"{event.step}/{event.steps} loss {event.loss:.3f} norm {event.norm:.2f} "
        f"cos {event.cosine:+.2f} near {near} {event.seconds_left:.0f} s"
    )
    progress.update(tasks[event.word], completed=event.step, facts=plain(facts))


def show_event(event: Event, console: Console) -> None:
    """A line for what is worth one."""
    match event:
        case Opened():
            line = f"base [bold]{plain(event.base)}[/] ({event.family}) on {plain(event.reason)}"
        case Cached():
            line = f"{plain(event.word)}: {event.pictures} pictures encoded ({event.found} from the cache)"
        case Started():
            verb = "goes on at step" if event.step else "starts from"
            line = f"{plain(event.word)}: {verb} {event.step if event.step else repr(event.start)}"
        case Warned():
            line = f"[yellow]note:[/] {plain(event.text)}"
        case Failed():
            line = f"[red]failed:[/] {plain(event.word)}: {plain(event.reason)}"
        case Checkpoint() | Picture() | Step() | Finished():
            return
    console.print(line, highlight=False, soft_wrap=True)


def show_finished(event: Finished, console: Console) -> None:
    """What was made, where it is and what to type next."""
    console.print(
        f"\n[green]learned[/] [bold]{plain(event.word)}[/] in {event.seconds:.0f} s ({plain(event.reason)})",
        highlight=False,
    )
    made = [("word" if event.embedding else "weights", event.file), *(("weights", file) for file in event.more)]
    page = event.file.parent / "report.html"
    for name, path in (*made, ("pictures", event.sheet), *([("report", page)] if page.exists() else [])):
        console.print(f"  {name:9} {path}", highlight=False, soft_wrap=True)
    quoted = f"'a {event.word} on a blue background'"
    weights = ([] if event.embedding else [event.file]) + list(event.more[:1])
    files = (f" --word {event.file}" if event.embedding else "") + "".join(f" --weights {file}" for file in weights)
    for line in (f"neologism generate {quoted}{files}", f"neologism verify {event.file.parent}"):
        console.print(f"  [dim]next[/]      {plain(line)}", highlight=False, soft_wrap=True)


def show_merged(folder: Path, spelled: str, console: Console) -> None:
    """Where the merged model lies and what to type there."""
    told = f" (its word is written {plain(spelled)!r} there)" if spelled else " (with the word's own file beside it)"
    console.print(f"[green]wrote[/] {folder}{told}", highlight=False, soft_wrap=True)


def printed(facts: dict[str, Any]) -> None:
    """Facts as one line of JSON."""
    sys.stdout.write(json.dumps(facts, ensure_ascii=False, default=str) + "\n")


def show_checked(checked: Checked, out: Path | None, console: Console) -> None:
    """The pictures as training would see them."""
    table = Table("picture", "size", "caption", "verdict", box=None)
    for photo in checked.photos:
        table.add_row(
            plain(photo.path.name), f"{photo.size[0]} x {photo.size[1]}", plain(photo.caption or "-"), "[green]fit[/]"
        )
    for unfit in checked.unfit:
        table.add_row(plain(unfit.path.name), "-", "-", f"[red]left out:[/] {plain(unfit.reason)}")
    console.print(table)
    for text in checked.warnings:
        console.print(f"[yellow]note:[/] {plain(text)}", highlight=False, soft_wrap=True)
    for fault in checked.faults:
        console.print(f"[yellow]{fault.kind}:[/] {plain(fault.text)}", highlight=False, soft_wrap=True)
    if not (checked.unfit or checked.warnings or checked.faults):
        console.print("[green]nothing to mind[/]")
    if out:
        console.print(f"as training sees them: {out}", highlight=False, soft_wrap=True)


def show_prepared(found: Prepared, console: Console) -> None:
    """A new folder of pictures."""
    table = Table("picture", "from", "side", "cropped", box=None)
    for one in found.made:
        table.add_row(plain(one.path.name), plain(one.source.name), str(one.side), one.cropped)
    for unfit in found.unfit:
        table.add_row("-", plain(unfit.path.name), "-", f"[red]left out:[/] {plain(unfit.reason)}")
    console.print(table)
    for text in found.warnings:
        console.print(f"[yellow]note:[/] {plain(text)}", highlight=False, soft_wrap=True)
    console.print(f"[green]wrote[/] {found.folder}", highlight=False, soft_wrap=True)


def show_facts(facts: dict[str, Any], console: Console) -> None:
    """A word's facts, one a line."""
    for name, value in facts.items():
        if name != "vectors":
            console.print(f"{name:10} {plain(str(value))}", highlight=False, soft_wrap=True)
    for key, rows in facts["vectors"].items():
        console.print(
            f"{key:10} {rows['shape'][0]} x {rows['shape'][1]}, vocabulary norm {rows.get('vocabulary_norm', '?')}",
            highlight=False,
        )
        for number, norm in enumerate(rows["norms"]):
            near = rows["nearest"][number] if rows["nearest"] else []
            told = ", ".join(f"{n['word']} {n['cosine']:+.2f}" for n in near)
            console.print(f"  row {number}    norm {norm}  near {plain(told)}", highlight=False, soft_wrap=True)


def show_converted(found: Found, file: Path, uses: list[str], console: Console) -> None:
    """What a file was, what was written, and what to do with it."""
    noted = noting(console)
    for note in found.notes:
        noted(note)
    told = f"{plain(found.embedding.word)}, read as: {plain(found.layout)}"
    for line in (told, f"[green]wrote[/] {file}", *(f"  {plain(use)}" for use in uses)):
        console.print(line, highlight=False, soft_wrap=True)


def show_transfer(word: Embedding, fits: list[Fit], file: Path, console: Console) -> None:
    """How well known words are found again, the file, and what to do with it; that the word itself is found nobody has measured."""
    train = f"neologism train PICTURES --word '{word.word}' --base '{word.base}' --from {file}"
    lines = [*(fit.told() for fit in fits), "This is a start, not a learned word: how it draws was not looked at."]
    for line in (*map(plain, lines), f"[green]wrote[/] {file}", f"  [dim]next[/] {plain(train)}"):
        console.print(line, highlight=False, soft_wrap=True)


def show_verdict(verdict: Verdict, console: Console) -> None:
    """Whether the base is untouched."""
    if verdict.untouched:
        told = f"{verdict.tensors} tensors and {verdict.pictures} pictures without {', '.join(verdict.words)} are bit for bit as before"
        console.print(f"[green]untouched:[/] {plain(told)}", highlight=False, soft_wrap=True)
    for text in verdict.changed:
        console.print(f"[red]changed:[/] {plain(text)}", highlight=False, soft_wrap=True)
