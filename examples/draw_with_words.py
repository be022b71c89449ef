"""Draw prompts with one or more learned words in them."""

import sys

import neologism

files = sys.argv[1:] or ["words/mine/word.safetensors"]
words = [neologism.load(file) for file in files]
model = neologism.open_model(words[0].base)

for word in words:
    for number, picture in enumerate(
        neologism.generate(model, f"a {word.word} on a blue background", [word], seeds=range(4))
    ):
        picture.save(f"{word.word.strip('<>')}-{number}.png")
