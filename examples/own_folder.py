"""Judge a folder of new recordings by a folder of normal ones.

usage: python examples/own_folder.py NORMAL NEW
"""

import sys

from machine_asd import Detector

normal, new = sys.argv[1:]
detector = Detector().fit(normal)
for clip in detector.score(new):
    print(clip.explain())
