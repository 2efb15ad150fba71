"""Renders snapshots of products as a phone would take them, to train a studio and its mask network.

`python -m tests.benchmarks.rendering --help`. Shapes come from the LDraw Parts Library (Debian's package
`ldraw-parts`). A training photo names its part, colour and view, so its product is rendered in the same view,
in the light of a room, on any ground. The photo is then the studio picture of that snapshot.

Light is precomputed for each pixel (Sloan et al. 2002, "Precomputed Radiance Transfer"), so that one product
can be shown in many rooms: see `light`.
"""
