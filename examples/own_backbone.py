"""Judge recordings by features of one's own: the backbones of `examples/plugin`.

usage: pip install ./examples/plugin && python examples/own_backbone.py NORMAL NEW

`examples/plugin/asd_example/crest.py` is a backbone in NumPy, `octaves.py` one in torch: a file each, and a
line each in the package's `pyproject.toml`. Every command takes them too: `asd extract --backbone crest`.
"""

import sys

from machine_asd import Detector, list_backbones

normal, new = sys.argv[1:]
if "crest" not in list_backbones():
    sys.exit("the example package is not installed: pip install ./examples/plugin")
for name in ("crest", "logspec"):
    results = Detector(name, scorer="min-distance").fit(normal).score(new)
    worst = max(results, key=lambda clip: clip.score / clip.threshold)
    abnormal = sum(clip.decision == 1 for clip in results)
    print(f"{name}: {abnormal} of {len(results)} abnormal, first of all {worst.clip}")
