"""The data sets that the pipeline reads, in the order in which their faces stand in the joint set.

A source is a module of this folder with
- `TITLE`, `LAYOUTS` (what may lie in its folder), `PAGE` (where it comes from) and `KAGGLE` (a handle, or empty);
- `find(folder)`: where its files are; raises UserError when they are missing or ambiguous;
- `load(folder, settings)`: its faces and a report for metrics/details, `settings` being its section of params.yaml.
  Faces are a FaceSet where they come as pictures of faces, else a table with the `BOX_COLUMNS` of
  src/datasets/photos.py; then `find` returns an object with `photos`, a PhotoFolder;
- `assign_usage(labels)`: to which split each face belongs by the source's own rule, "Training", "PublicTest" or
  "PrivateTest", or "" where it has none and photos are drawn.
Its stage, `ingest_<name>`, writes data/interim/<name> (FaceSet) or data/interim/<name>.csv (table).
"""

from types import ModuleType

from src.datasets import expw, fer2013

SOURCES: dict[str, ModuleType] = {"fer2013": fer2013, "expw": expw}
