"""The demo: teach the base that ships a thing it has never seen, and look at what came of it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from neologism import screen
from neologism.errors import PhotosError
from neologism.recipe import recipe
from neologism.training import train

EXAMPLES = Path(__file__).parent / "emoji" / "photos"
SHOWN = "rabbit"
SCENES = (
    "a {}",
    "a {} on a blue background",
    "a small {} on a green background at the left",
    "a red {} on a white background",
    "a {} on a yellow background, black and white",
)


def subjects() -> list[str]:
    """The names of the example subjects, the styles left out."""
    return sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "neon")


def demo(subject: str | None, out: Path, seed: int, console: Console) -> None:
    """Teach one held-out subject, draw it in new scenes, and say what to type next.

    Raises:
        PhotosError: there is no example subject of that name.
    """
    known = subjects()
    chosen = subject or SHOWN
    if chosen not in known:
        raise PhotosError(f"There is no example subject {chosen!r}. Choose one of {', '.join(known)}.")
    pictures = EXAMPLES / chosen
    console.print(
        f"The emoji base has no word for the thing in {pictures}.\n"
        f"Teaching it [bold]{screen.plain(f'<{chosen}>')}[/] from the pictures there; nothing else of the model changes.",
        highlight=False,
        soft_wrap=True,
    )
    settings = recipe(pictures=str(pictures), words=f"<{chosen}>", seed=seed, preview_prompts=SCENES)
    for event in screen.follow(train(settings, out / chosen), console):
        console.print("  [dim]yours[/]     neologism train FOLDER_OF_PICTURES --word '<my-mug>'", highlight=False)
        if event.sheet:
            console.print(
                f"\nLook at {event.sheet}: the real thing above, then the nearest known word, then new scenes.",
                soft_wrap=True,
            )
