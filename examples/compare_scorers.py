"""Compare scorers on recordings of which some are known to be abnormal.

usage: python examples/compare_scorers.py NORMAL NEW ABNORMAL [SCORER ...]

Prints, for each scorer, in how many pairs of a normal and an abnormal recording the abnormal one scores
higher: the area under the ROC curve, 0.5 for guessing.
"""

import sys

import numpy as np

from machine_asd import AsdError, Detector, list_scorers

normal, new, abnormal, *names = sys.argv[1:]
unknown = set(names) - set(list_scorers())
if unknown:
    sys.exit(f"no scorer {', '.join(unknown)}; there are {', '.join(list_scorers())}")
for name in names or ("min-distance", "ldn", "fusion", "pooled"):
    detector = Detector("logmel", scorer=name)
    try:
        detector.fit(normal)
    except AsdError as error:  # some need more recordings than others
        print(f"{name:20} {error}")
        continue
    good, bad = (np.array([clip.score for clip in detector.score(folder)]) for folder in (new, abnormal))
    area = np.mean(bad[:, None] > good) + np.mean(bad[:, None] == good) / 2
    print(f"{name:20} {area:.3f}")
