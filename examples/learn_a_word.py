"""Learn a word from a folder of pictures and follow the run, in Python."""

import sys

import neologism

pictures = sys.argv[1] if len(sys.argv) > 1 else "src/neologism/emoji/photos/rabbit"
recipe = neologism.Recipe(pictures=(pictures,), words=("<mine>",))

for event in neologism.train(recipe, "words/mine"):
    match type(event).__name__:
        case "Step" if event.step % 25 == 0:
            print(f"step {event.step}: loss {event.loss:.3f}, near {', '.join(event.nearest)}")
        case "Warned":
            print("note:", event.text)
        case "Finished":
            print("the word:", event.file, "and what it draws:", event.sheet)
