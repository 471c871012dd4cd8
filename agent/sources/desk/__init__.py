"""The desk that `synthetic://desk` shows: drawn, lit and photographed by arithmetic, with the truth beside the picture.

Numpy and OpenCV alone; every random choice comes from a generator that is passed in. Which families of surfaces,
lights, patterns and clutter may appear is a Domain (domains.py): the bundled model is trained on one and measured on
another that shares none of them. The camera on top, its pacing and its URI are synthetic.py's.
"""
