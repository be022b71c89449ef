"""Learn several words in one run: they share the frozen model and cannot feel one another."""

import sys

import neologism
from neologism.events import Finished

folders = sys.argv[1:]
words = tuple(f"<word-{number}>" for number in range(len(folders)))
recipe = neologism.Recipe(pictures=tuple(folders), words=words, steps=150)

for event in neologism.train(recipe, "words/several"):
    if isinstance(event, Finished):
        print(event.word, event.file, f"{event.seconds:.0f} s", event.reason)
