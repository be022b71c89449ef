"""How a measurement is asked for, told and kept under docs/measured/."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEASURED = Path("docs/measured")


def options(about: str) -> argparse.ArgumentParser:
    """The options that every measurement has."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", action="store_true", help="end with the figures as one JSON object on the last line")
    parser.add_argument("--only", default="", help="measure only these, separated by commas; nothing is recorded then")
    parser.add_argument("--stored", action="store_true", help="print what was recorded instead of measuring")
    return parser


def narrowed(given: argparse.Namespace, other: str) -> tuple[list[str], list[str]]:
    """The names given by --only and by another option like it; where either names some, nothing is recorded."""
    names, others = ([n for n in text.split(",") if n] for text in (given.only, getattr(given, other)))
    given.only = given.only or getattr(given, other)
    return names, others


def told(name: str, given: argparse.Namespace, measure: Callable[[], dict[str, Any]]) -> None:
    """Measure and record, or print the record."""
    figures = stored(name)["figures"] if given.stored else measure()
    if not given.stored and not given.only:
        record(name, figures)
    print(json.dumps(stored(name), indent=1) if given.stored else json.dumps(figures, indent=1))
    if given.json:
        print(json.dumps(figures))


def record(name: str, figures: dict[str, Any]) -> Path:
    """Keep figures with date, machine, commit and command."""
    MEASURED.mkdir(parents=True, exist_ok=True)
    module = name if "." in name else f"benchmarks.{name.partition('-')[0]}"
    facts = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "commit": commit(),
        "command": " ".join(["python -m", module, *sys.argv[1:]]),
        "figures": figures,
    }
    file = MEASURED / f"{name}.json"
    file.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    return file


def stored(name: str) -> dict[str, Any]:
    """What was recorded last."""
    file = MEASURED / f"{name}.json"
    if not file.exists():
        sys.exit(f"Nothing was recorded at {file} yet: run the same command without --stored.")
    return json.loads(file.read_text("utf-8"))


def figure(name: str, key: str) -> Any:
    """One figure of another record, or None where that was not measured."""
    return stored(name)["figures"].get(key) if (MEASURED / f"{name}.json").exists() else None


def commit() -> str:
    """The commit of the working tree, with a + where files differ from it."""
    answers = [
        subprocess.run(["git", *words], capture_output=True, text=True).stdout.strip()
        for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))
    ]
    return answers[0] + ("+" if answers[1] else "")


def processor() -> str:
    """The processor's own name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
