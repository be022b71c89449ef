"""Score what a word draws against pictures it was not trained on."""

import sys
from pathlib import Path

from PIL import Image

import neologism

word = neologism.load(sys.argv[1])
photos = [Image.open(path).convert("RGB") for path in sorted(Path(sys.argv[2]).glob("*.png"))]
prompt = f"a {word.word}"
drawn = neologism.generate(neologism.open_model(word.base), prompt, [word], seeds=range(4))
print(neologism.score(drawn, photos))
