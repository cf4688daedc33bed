"""The seven expressions: their order, names, colours, and how each data set spells them.

FER2013 and ExpW use the same numeric codes, which are also our class indices. Folder listings are
alphabetical and differ from this order, so folders are always mapped by name.
"""

EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
NUM_CLASSES = len(EXPRESSIONS)
CODE = {name: code for code, name in enumerate(EXPRESSIONS)}

# Seven of the eight colours of Okabe and Ito, "Color Universal Design" (2008): distinguishable with
# every common colour-vision deficiency.
COLOURS = {
    "angry": "#D55E00",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "happy": "#F0E442",
    "sad": "#0072B2",
    "surprise": "#56B4E9",
    "neutral": "#999999",
}

# Folder names seen in redistributions of the data sets, in lower case.
FOLDER_NAMES = {
    **{name: name for name in EXPRESSIONS},
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
