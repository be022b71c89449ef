"""Score a word against pictures it was not trained on, beside its start word, the nearest word and the real pictures."""

import sys

import neologism

for scored in neologism.score(sys.argv[1], photos=sys.argv[2]):
    for metric in scored.metrics:
        print(f"{metric.name}: {metric.own:.3f}", metric.anchors)
    print(*scored.remarks, sep="\n")
